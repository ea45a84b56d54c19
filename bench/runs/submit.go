package main

import (
	"context"
	"fmt"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/runs"
)

// submits measures how many runs are accepted in a second.
func (b bench) submits(ctx context.Context) ([]record.Record, error) {
	m, err := b.open(ctx, runs.Config{MaxPending: 1 << 20})
	if err != nil {
		return nil, err
	}
	defer m.close()
	f := floor{js: m.bus.JetStream()}
	var all []record.Record
	for _, clients := range b.clients {
		n := max(b.submissions, 4*clients)
		ours, peer, err := b.turns(
			func() (float64, error) {
				return perSecond(n, clients, func(client, i int) error {
					_, err := m.submit(ctx, 1, payload)
					return err
				})
			},
			func() (float64, error) { return f.publishes(ctx, n, clients) })
		if err != nil {
			return nil, err
		}
		r := b.more(fmt.Sprintf("submit/%d", clients), fmt.Sprintf("runs of one shard, %d submitters at once, %d a round", clients, n),
			"runs/s", ours, peer, "JetStream: one synced publish each")
		r.Note = fmt.Sprintf("the time of %.1f synced publishes", peer/ours)
		b.say(r)
		all = append(all, r)
	}
	return all, nil
}
