package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/runs"
)

// lists measures a page of the newest runs, and a filter that nothing matches, which looks at every document.
func (b bench) lists(ctx context.Context) ([]record.Record, error) {
	m, err := b.open(ctx, runs.Config{MaxPending: 1 << 20})
	if err != nil {
		return nil, err
	}
	defer m.close()
	if _, err := perSecond(b.stored, 16, func(_, _ int) error {
		_, err := m.submit(ctx, 1, payload)
		return err
	}); err != nil {
		return nil, err
	}
	var all []record.Record
	for _, q := range []struct {
		name   string
		filter runs.Filter
		want   int
	}{{"page", runs.Filter{}, 50}, {"scan", runs.Filter{Target: "sets/none"}, 0}} {
		ours, peer, err := b.turns(
			func() (float64, error) {
				begin := time.Now()
				page, _, err := m.runs.List(ctx, q.filter, 50, "")
				if err == nil && len(page) != q.want {
					err = fmt.Errorf("%d runs listed, want %d", len(page), q.want)
				}
				return ms(time.Since(begin)), err
			},
			func() (float64, error) { return b.readAll(ctx, m) })
		if err != nil {
			return nil, err
		}
		r := b.less("list/"+q.name, fmt.Sprintf("%d runs of one shard in the bucket, pages of 50", b.stored), "ms", ours, peer,
			"JetStream: every document in one stream, nothing decoded")
		b.say(r)
		all = append(all, r)
	}
	return all, nil
}

// readAll reads the documents of all runs, in milliseconds.
func (b bench) readAll(ctx context.Context, m *mesh) (float64, error) {
	begin := time.Now()
	bucket, err := m.bus.JetStream().KeyValue(ctx, "dreamood-runs")
	if err != nil {
		return 0, err
	}
	documents, err := bucket.Watch(ctx, "run.*", jetstream.IgnoreDeletes())
	if err != nil {
		return 0, err
	}
	defer func() { _ = documents.Stop() }()
	n := 0
	for entry := range documents.Updates() {
		if entry == nil { // all there are
			break
		}
		n++
	}
	if n != b.stored {
		return 0, fmt.Errorf("%d documents of %d", n, b.stored)
	}
	return ms(time.Since(begin)), nil
}
