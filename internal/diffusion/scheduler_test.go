package diffusion

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSchedulersMatchDiffusers compares every step of every recorded schedule.
// diffusers computes in float32, this package in float64 with the sample in
// float32; 1e-4 is asked of 50 steps.
func TestSchedulersMatchDiffusers(t *testing.T) {
	var vectors struct {
		Start recorded
		Cases []struct {
			Config    SchedulerConfig
			Steps     int
			Timesteps []int
			Samples   recorded
		}
	}
	readVectors(t, "scheduler.json", &vectors)
	worst := 0.0
	for k, c := range vectors.Cases {
		name := fmt.Sprintf("%d %s %d", k, c.Config.ClassName, c.Steps)
		s, err := NewScheduler(c.Config, "", c.Steps)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.Timesteps, s.Timesteps()); diff != "" {
			t.Errorf("%s: timesteps: %s", name, diff)
			continue
		}
		n := len(vectors.Start)
		sample := append([]float32(nil), vectors.Start...)
		for i, step := range s.Timesteps() {
			if err := s.Step(standIn(sample, step), step, sample); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			d := farthest(sample, c.Samples[i*n:(i+1)*n])
			if d > 1e-4 {
				t.Errorf("%s: step %d differs by %.2g", name, i, d)
				break
			}
			worst = max(worst, d)
		}
	}
	t.Logf("%d schedules, largest difference %.2g", len(vectors.Cases), worst)
}

// standIn is the cheap model of the recording script.
func standIn(x []float32, t int) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(0.8*math.Sin(1.7*float64(v)+float64(t)/300) + 0.1*float64(v))
	}
	return out
}

func TestSchedulerErrors(t *testing.T) {
	for want, make := range map[string]func() error{
		`"EulerDiscreteScheduler" is not implemented`: func() error { return schedule(SchedulerConfig{ClassName: "EulerDiscreteScheduler"}, "", 10) },
		`scheduler "heun"`:                            func() error { return schedule(SchedulerConfig{}, "heun", 10) },
		"0 steps":                                     func() error { return schedule(SchedulerConfig{}, DDIM, 0) },
		"1001 steps":                                  func() error { return schedule(SchedulerConfig{}, DDIM, 1001) },
		"timestep 1000 of 1000":                       func() error { return schedule(SchedulerConfig{StepsOffset: 1}, DDIM, 1000) },
		`prediction_type "sample"`:                    func() error { return schedule(SchedulerConfig{PredictionType: "sample"}, PLMS, 10) },
		"want at least 4":                             func() error { return schedule(SchedulerConfig{}, PNDM, 3) },
		`beta_schedule "exp"`:                         func() error { return schedule(SchedulerConfig{BetaSchedule: "exp"}, DDIM, 10) },
		"num_train_timesteps":                         func() error { return schedule(SchedulerConfig{TrainTimesteps: 1 << 40}, DDIM, 10) },
		"thresholding":                                func() error { return schedule(SchedulerConfig{Thresholding: true}, DDIM, 10) },
	} {
		if err := make(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := NewScheduler(SchedulerConfig{ClassName: "EulerDiscreteScheduler"}, PLMS, 10); err != nil {
		t.Errorf("the configuration of another class does not serve plms: %v", err)
	}
}

func schedule(c SchedulerConfig, name string, steps int) error {
	_, err := NewScheduler(c, name, steps)
	return err
}
