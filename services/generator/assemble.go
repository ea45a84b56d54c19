package generator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/dreamood/dreamood/internal/artifact"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/runs"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// examples of every class and reason that a shard keeps of what it refused.
const examples = 3

// maxReview bounds the review of a shard, in bytes.
const maxReview = 16 << 20

// result is that of a shard with a gate.
type result struct {
	Pictures string `json:"pictures"`          // blob: those taken
	Refused  string `json:"refused,omitempty"` // blob: examples of those that were not
	Review   string `json:"review"`            // blob: a tally per block
}

// examplesOf keeps some of the pictures that are refused.
type examplesOf struct {
	file   bytes.Buffer
	shard  shard
	counts map[string]int
}

func newExamples() *examplesOf {
	e := &examplesOf{counts: map[string]int{}}
	e.shard = newShard(&e.file)
	return e
}

func (e *examplesOf) add(p *generatorv1.Picture) error {
	key := p.Record.Class + "\x00" + p.Record.Judgement.Refused
	if e.counts[key]++; e.counts[key] > examples || len(p.Png) == 0 {
		return nil
	}
	return e.shard.add(p)
}

// put stores them; "" where there are none.
func (e *examplesOf) put(ctx context.Context, blobs artifact.Store) (string, error) {
	if err := e.shard.close(); err != nil || len(e.counts) == 0 {
		return "", err
	}
	ref, err := blobs.Put(ctx, &e.file)
	return string(ref), err
}

// gated renders the blocks of one shard.
func (s *Service) gated(ctx context.Context, t *runs.Task, j job, gate Gate, blocks []block) ([]byte, error) {
	from, to := part(len(blocks), t.Shard, t.Run.ShardCount)
	judge, err := s.judge(ctx, gate, j.space)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	wanted, shard, refused := 0, newShard(&file), newExamples()
	for _, b := range blocks[from:to] {
		wanted += b.quota
	}
	sel := selection{
		job: j, judge: judge, kept: s.progressOf(ctx, t.Run, t.Shard), took: shard.add, refuse: refused.add,
		report: func(taken float64, class string) { t.Report(int64(taken), int64(wanted), "choosing "+class) },
	}
	if err := sel.open(ctx, blocks[from:to]); err != nil {
		return nil, err
	}
	var review []tally
	for _, b := range blocks[from:to] {
		tally, err := sel.choose(ctx, b, 0, b.quota, &seen{bits: gate.DuplicateBits})
		if err != nil {
			return nil, err
		}
		review = append(review, tally)
	}
	if err := shard.close(); err != nil {
		return nil, err
	}
	r, err := s.keepGated(ctx, &file, refused, review)
	if err != nil {
		return nil, fmt.Errorf("keep shard %d: %w", t.Shard, err)
	}
	sel.kept.remove()
	t.Report(int64(wanted), int64(wanted), "")
	return r, nil
}

// keepGated stores what a shard has made, and names it.
func (s *Service) keepGated(ctx context.Context, file *bytes.Buffer, refused *examplesOf, review []tally) ([]byte, error) {
	pictures, err := s.deps.Blobs.Put(ctx, file)
	if err != nil {
		return nil, err
	}
	r := result{Pictures: string(pictures)}
	if r.Refused, err = refused.put(ctx, s.deps.Blobs); err != nil {
		return nil, err
	}
	text, err := json.Marshal(review)
	if err != nil {
		return nil, err
	}
	ref, err := artifact.PutBytes(ctx, s.deps.Blobs, text)
	if err != nil {
		return nil, err
	}
	r.Review = string(ref)
	return json.Marshal(r)
}

// assembly makes a set out of the shards of a run with a gate: duplicates between blocks go, and what is missing of a
// class is filled up with candidates that its blocks did not try. It depends on the request alone.
type assembly struct {
	service *Service
	run     runs.Run
	gate    Gate
	blocks  []block
	results []result
	states  []tally        // of every block
	known   map[int]*seen  // by label
	totals  map[int]*tally // by label
	files   map[string]int // label of every class
	refused *examplesOf
}

// assemble fills in the shards and yields of a set. open makes what rendering needs, when something is to be rendered.
func (s *Service) assemble(ctx context.Context, run runs.Run, set *generatorv1.Set, gate Gate, labels []int, open func() (job, error)) error {
	a := &assembly{service: s, run: run, gate: gate, blocks: blocksOf(int(set.PerClass), labels), known: map[int]*seen{}, totals: map[int]*tally{},
		files: map[string]int{}, refused: newExamples()}
	for i, label := range labels {
		a.files[set.Classes[i]], a.known[label], a.totals[label] = label, &seen{bits: gate.DuplicateBits}, &tally{}
	}
	if err := a.read(ctx); err != nil {
		return err
	}
	for _, r := range a.results {
		pictures, err := a.distinct(ctx, r.Pictures)
		if err != nil {
			return err
		}
		set.Shards = append(set.Shards, pictures)
		if r.Refused != "" {
			set.RefusedShards = append(set.RefusedShards, r.Refused)
		}
	}
	if err := a.refill(ctx, set, labels, open); err != nil {
		return err
	}
	more, err := a.refused.put(ctx, s.deps.Blobs)
	if err != nil {
		return err
	}
	if more != "" {
		set.RefusedShards = append(set.RefusedShards, more)
	}
	a.yields(set, labels)
	if set.Pictures == 0 {
		return a.nothing()
	}
	return nil
}

// read reads the reviews of all shards.
func (a *assembly) read(ctx context.Context) error {
	for i, shard := range a.run.Shards {
		var r result
		if err := json.Unmarshal(shard.Result, &r); err != nil {
			return runs.Drop(fmt.Errorf("result of shard %d: %w", i, err))
		}
		text, err := artifact.ReadAll(ctx, a.service.deps.Blobs, artifact.Ref(r.Review), maxReview)
		if err != nil {
			return fmt.Errorf("review of shard %d: %w", i, err)
		}
		var review []tally
		if err := json.Unmarshal(text, &review); err != nil {
			return runs.Drop(fmt.Errorf("review of shard %d: %w", i, err))
		}
		a.results, a.states = append(a.results, r), append(a.states, review...)
	}
	if len(a.states) != len(a.blocks) {
		return runs.Drop(fmt.Errorf("the shards tell of %d blocks, the set has %d", len(a.states), len(a.blocks)))
	}
	for i, b := range a.blocks {
		a.totals[b.label].add(a.states[i])
	}
	return nil
}

// distinct writes a shard anew without pictures that are near those of earlier blocks; without any it stays as it is.
func (a *assembly) distinct(ctx context.Context, ref string) (string, error) {
	if a.gate.DuplicateBits < 0 {
		return ref, nil
	}
	var file bytes.Buffer
	dropped, shard := 0, newShard(&file)
	err := a.service.readShard(ctx, ref, func(p *generatorv1.Picture) error {
		hash, err := strconv.ParseUint(p.Record.GetJudgement().GetHash(), 16, 64)
		if err != nil {
			return fmt.Errorf("hash of %s: %w", p.Record.File, err)
		}
		label := a.files[p.Record.Class]
		if a.known[label].duplicate(hash) {
			dropped++
			a.totals[label].Taken--
			a.totals[label].refuse(refusedDuplicate, 1)
			p.Record.Judgement.Refused = refusedDuplicate
			return a.refused.add(p)
		}
		a.known[label].keep(hash)
		return shard.add(p)
	})
	if err != nil || dropped == 0 {
		return ref, err
	}
	if err := shard.close(); err != nil {
		return "", err
	}
	put, err := a.service.deps.Blobs.Put(ctx, &file)
	return string(put), err
}

// refill tries candidates that blocks left, class after class and block after block, until every class has what is
// wanted of it or has none left. They make one more shard.
func (a *assembly) refill(ctx context.Context, set *generatorv1.Set, labels []int, open func() (job, error)) error {
	var sel *selection
	var file bytes.Buffer
	shard := newShard(&file)
	for i, b := range a.blocks {
		total := a.totals[b.label]
		short := int(set.PerClass) - total.Taken
		if short == 0 || a.states[i].Tried == b.quota*a.gate.MaxAttempts {
			continue
		}
		if sel == nil {
			j, err := open()
			if err != nil {
				return err
			}
			judge, err := a.service.judge(ctx, a.gate, j.space)
			if err != nil {
				return err
			}
			sel = &selection{job: j, judge: judge, kept: a.service.progressOf(ctx, a.run, a.run.ShardCount), took: shard.add, refuse: a.refused.add,
				report: func(float64, string) { runs.Touch(ctx) }}
			if err := sel.open(ctx, a.states); err != nil {
				return err
			}
		}
		t, err := sel.choose(ctx, b, a.states[i].Tried, short, a.known[b.label])
		if err != nil {
			return err
		}
		total.add(t)
	}
	if sel == nil || sel.taken == 0 {
		return nil
	}
	if err := shard.close(); err != nil {
		return err
	}
	ref, err := a.service.deps.Blobs.Put(ctx, &file)
	if err != nil {
		return fmt.Errorf("keep the refilled pictures: %w", err)
	}
	set.Shards = append(set.Shards, string(ref))
	sel.kept.remove()
	return nil
}

// yields tells what became of the candidates.
func (a *assembly) yields(set *generatorv1.Set, labels []int) {
	set.Pictures = 0
	for i, label := range labels {
		t := a.totals[label]
		y := &generatorv1.ClassYield{Class: set.Classes[i], Wanted: set.PerClass, Taken: int32(t.Taken), Tried: int32(t.Tried),
			Limit: set.PerClass * int32(a.gate.MaxAttempts)}
		for reason, n := range t.Refused {
			if y.Refused == nil {
				y.Refused = map[string]int32{}
			}
			y.Refused[reason] = int32(n)
		}
		set.Pictures += y.Taken
		set.Yields = append(set.Yields, y)
	}
}

// nothing is the error of a set of which the gate took no picture.
func (a *assembly) nothing() error {
	var all tally
	for _, t := range a.totals {
		all.add(*t)
	}
	return fault.New(fault.FailedPrecondition, "the gate refused all %d candidates: %s", all.Tried, all)
}
