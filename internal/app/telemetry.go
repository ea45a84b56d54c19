package app

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/trace"

	"github.com/dreamood/dreamood/internal/rpc"
	"github.com/dreamood/dreamood/internal/runs"
	"github.com/dreamood/dreamood/internal/telemetry"
)

// scope names the spans of this program that no library makes.
const scope = "github.com/dreamood/dreamood"

// openMetrics opens the listener of the metrics, where one is wanted.
func (a *App) openMetrics() error {
	if a.cfg.Metrics == "" {
		return nil
	}
	a.metrics = telemetry.New(telemetry.Config{Version: a.cfg.Version, Target: a.cfg.Target, Kinds: kinds})
	var err error
	if a.scraped, err = a.metrics.Listen(a.cfg.Metrics, a.ready); err != nil {
		return err
	}
	a.closers = append(a.closers, a.scraped.Close)
	return nil
}

// MetricsAddr is where metrics are served; "" when they are not.
func (a *App) MetricsAddr() string {
	if a.scraped == nil {
		return ""
	}
	return a.scraped.Addr()
}

// ready says why the process takes no calls and no work.
func (a *App) ready() error {
	switch {
	case !a.serving.Load():
		return errors.New("starting or stopping")
	case !a.bus.Conn().IsConnected():
		return errors.New("not connected to NATS")
	}
	return nil
}

// sample has the queue, the work and the connection looked at with every scrape.
func (a *App) sample() {
	if a.metrics == nil {
		return
	}
	service, conn := a.runs, a.bus.Conn()
	a.metrics.Sample(telemetry.Sources{
		Queue: func(ctx context.Context) ([]telemetry.Lane, error) {
			list, err := service.Backlog(ctx)
			var lanes []telemetry.Lane
			for _, b := range list {
				lanes = append(lanes, telemetry.Lane(b))
			}
			return lanes, err
		},
		Working: func() []telemetry.Work {
			var work []telemetry.Work
			for _, w := range service.Activity() {
				work = append(work, telemetry.Work(w))
			}
			return work
		},
		DeadLetters: func(ctx context.Context) (map[string]int64, error) {
			letters, _, err := service.DeadLetters(ctx, runs.Filter{}, "", 1000, "")
			counts := map[string]int64{}
			for _, letter := range letters {
				if letter.RedrivenBy == "" { // nobody has taken care of it
					counts[letter.Kind]++
				}
			}
			return counts, err
		},
		Live: func() (calls, pictures int, there bool) {
			if g := a.generator.Load(); g != nil {
				calls, pictures = g.Live()
				return calls, pictures, true
			}
			return 0, 0, false
		},
		Engine: func() (starts, crashes int, there bool) {
			if s := a.engine.Load(); s != nil {
				starts, crashes = s.Counts()
				return starts, crashes, true
			}
			return 0, 0, false
		},
		Drift: func() []telemetry.Drift {
			var out []telemetry.Drift
			if t := a.trainer.Load(); t != nil {
				for _, w := range t.Drift() {
					out = append(out, telemetry.Drift{Detector: w.Detector, PSI: w.Shift.PSI, Refused: w.Refused, Expected: w.Expected, Window: w.Size})
				}
			}
			return out
		},
		Models: func() map[string]int {
			if g := a.generator.Load(); g != nil {
				return g.ModelStates()
			}
			return nil
		},
		NATS: func() (bool, uint64) { return conn.IsConnected(), conn.Stats().Reconnects },
	})
}

func (a *App) tracer() trace.Tracer {
	if a.cfg.Tracing == nil {
		return nil
	}
	return a.cfg.Tracing.Tracer(scope)
}

func (a *App) runObserver() runs.Observer {
	if a.metrics == nil {
		return nil // an interface, not a pointer in one
	}
	return a.metrics
}

func (a *App) callObserver() rpc.Observer {
	if a.metrics == nil {
		return nil
	}
	return a.metrics
}
