package runs

import "testing"

// TestPace: with more shards under way each reports less often, so that all of them together do not report more often.
func TestPace(t *testing.T) {
	t.Parallel()
	for underWay, want := range map[int]int64{0: 1, 1: 1, 8: 1, 9: 2, 16: 2, 17: 4, 200: 32, 512: 64} {
		run := Run{Shards: make([]ShardState, 512)}
		for i := range run.Shards {
			run.Shards[i] = ShardState{Done: i >= 2*underWay}
			if i%2 == 0 || i >= 2*underWay {
				run.Shards[i].Claim = "c"
			}
		}
		if underWay == 512 {
			for i := range run.Shards {
				run.Shards[i] = ShardState{Claim: "c"}
			}
		}
		if got := pace(&run); got != want {
			t.Errorf("%d shards under way: a report every %d looks, want %d", underWay, got, want)
		}
	}
}
