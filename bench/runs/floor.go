package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dreamood/dreamood/internal/bus"
)

// floor is what JetStream does by itself: no documents, no claims, no events.
type floor struct {
	js      jetstream.JetStream
	streams int // made so far
}

// stream makes an empty stream of its own subject, synced like those of the runs.
func (f *floor) stream(ctx context.Context, retention jetstream.RetentionPolicy) (jetstream.Stream, string, error) {
	f.streams++
	name := fmt.Sprintf("floor-%d", f.streams)
	s, err := f.js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Retention: retention})
	return s, name, err
}

// publishes is the rate of acknowledged, synced messages.
func (f *floor) publishes(ctx context.Context, n, clients int) (float64, error) {
	_, name, err := f.stream(ctx, jetstream.LimitsPolicy)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.js.DeleteStream(ctx, name) }()
	return perSecond(n, clients, func(client, i int) error {
		_, err := f.js.Publish(ctx, fmt.Sprintf("%s.%d", name, client), []byte(payload))
		return err
	})
}

// workQueue is the rate at which so many fetchers, each on one of the connections, empty a full work queue: one message
// at a time, each acknowledged twice.
func (f *floor) workQueue(ctx context.Context, n, fetchers int, connections []*bus.Bus) (float64, error) {
	stream, name, err := f.stream(ctx, jetstream.WorkQueuePolicy)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.js.DeleteStream(ctx, name) }()
	if _, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1}); err != nil {
		return 0, err
	}
	if _, err := perSecond(n, 16, func(_, i int) error {
		_, err := f.js.Publish(ctx, fmt.Sprintf("%s.%d", name, i), []byte(`{"run":"0123456789abcdefghjk","shard":17}`))
		return err
	}); err != nil {
		return 0, err
	}
	consumers := make([]jetstream.Consumer, len(connections))
	for i, c := range connections {
		if consumers[i], err = c.JetStream().Consumer(ctx, name, "workers"); err != nil {
			return 0, err
		}
	}
	return perSecond(n, fetchers, func(client, i int) error {
		msg, err := fetch(consumers[client%len(consumers)])
		if err != nil {
			return err
		}
		return msg.DoubleAck(ctx)
	})
}

func fetch(c jetstream.Consumer) (jetstream.Msg, error) {
	batch, err := c.Fetch(1, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		return nil, err
	}
	if msg := <-batch.Messages(); msg != nil {
		return msg, nil
	}
	return nil, fmt.Errorf("no message within 5 s: %v", batch.Error())
}

// handover is how long a message takes from the call that publishes it to a fetcher that waits, in milliseconds.
func (f *floor) handover(ctx context.Context, n int) ([]float64, error) {
	stream, name, err := f.stream(ctx, jetstream.WorkQueuePolicy)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.js.DeleteStream(ctx, name) }()
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1})
	if err != nil {
		return nil, err
	}
	var took []float64
	for i := range n {
		var group sync.WaitGroup
		var arrived time.Time
		var failed error
		group.Go(func() {
			var msg jetstream.Msg
			if msg, failed = fetch(consumer); failed == nil {
				arrived = time.Now()
				failed = msg.DoubleAck(ctx)
			}
		})
		time.Sleep(5 * time.Millisecond) // the fetcher waits at the server by now
		begin := time.Now()
		if _, err := f.js.Publish(ctx, fmt.Sprintf("%s.%d", name, i), []byte(`{"run":"0123456789abcdefghjk","shard":17}`)); err != nil {
			return nil, err
		}
		if group.Wait(); failed != nil {
			return nil, failed
		}
		took = append(took, ms(arrived.Sub(begin)))
	}
	return took, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
