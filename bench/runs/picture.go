package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dreamood/dreamood/bench/record"
	"github.com/dreamood/dreamood/internal/diffusion"
	"github.com/dreamood/dreamood/internal/philox"
	"github.com/dreamood/dreamood/internal/runs"
)

// shardSize is the generator's: pictures per shard.
const shardSize = 32

// picture compares what a picture costs in bookkeeping with what it costs to render.
func (b bench) picture(ctx context.Context) ([]record.Record, error) {
	m, err := b.open(ctx, runs.Config{MaxPending: 1 << 20})
	if err != nil {
		return nil, err
	}
	defer m.close()
	var rates []float64
	for range b.rounds {
		rate, err := b.drain(ctx, m, crew{1, 1})
		if err != nil {
			return nil, err
		}
		rates = append(rates, rate)
	}
	rendered, err := b.render(ctx)
	if err != nil {
		return nil, err
	}
	ours := 1e3 / record.Median(rates) / shardSize
	r := b.less("picture", fmt.Sprintf("shards of %d pictures, one slot; the reference model, 20 steps, guidance 3", shardSize), "ms a picture", ours,
		rendered, "rendering it with the reference model")
	r.Note = fmt.Sprintf("bookkeeping is %.3f %% of rendering", 100*ours/rendered)
	b.say(r)
	return []record.Record{r}, nil
}

// render returns the milliseconds that a picture of the reference model takes as the generator renders it.
func (b bench) render(ctx context.Context) (float64, error) {
	model, err := diffusion.Open("models/reference", diffusion.Config{})
	if err != nil {
		return 0, err
	}
	defer func() { _ = model.Close() }()
	items := make([]diffusion.Item, b.pictures)
	for i := range items {
		items[i] = diffusion.Item{Prompt: "a photo of a cat", Key: philox.Key{Seed: 1, Index: uint64(i)}}
	}
	options := diffusion.Options{Steps: 20, Guidance: 5}
	if _, err := model.Render(ctx, items[:1], options); err != nil { // loads what is loaded late
		return 0, err
	}
	begin := time.Now()
	if _, err := model.Render(ctx, items, options); err != nil {
		return 0, err
	}
	return ms(time.Since(begin)) / float64(b.pictures), nil
}
