package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dreamood/dreamood/bench/record"
)

// size says how much each part does.
type size struct {
	rounds      int // of ours and of the peer, in turn; records hold medians
	clients     []int
	submissions int // per round

	crews  []crew
	shards int // per round

	samples int           // of a latency
	busy    time.Duration // length of a shard of the load beside it

	watchers int
	few      int // runs, when all watch few
	events   int // per run, when events are replayed

	stored int // runs that are listed

	pictures int // rendered to time one; 0: a picture takes the time that was recorded last

	scale plan
}

// crew is who works at the same time.
type crew struct{ processes, slots int } // slots per process

func full() size {
	return size{
		rounds: 3, clients: []int{1, 8, 64}, submissions: 256,
		crews: []crew{{1, 1}, {1, 4}, {1, 16}, {4, 1}, {4, 4}}, shards: 512,
		samples: 400, busy: 200 * time.Millisecond,
		watchers: 1000, few: 10, events: 50,
		stored: 2000, pictures: 32,
		scale: plan{processes: 20, slots: 10, runs: 9, shards: 445, median: 3 * time.Second, spread: 0.2, every: 500 * time.Millisecond},
	}
}

// bench is one run of this program.
type bench struct {
	size
	folder string // where servers keep their streams; "" is the system's temporary folder
	say    func(record.Record)
}

// scratch makes a folder for a server and returns what removes it.
func (b bench) scratch() (string, func(), error) {
	folder, err := os.MkdirTemp(b.folder, "bench-runs")
	return folder, func() { _ = os.RemoveAll(folder) }, err
}

// turns lets ours and the peer measure in turn.
func (b bench) turns(ours, peer func() (float64, error)) (o, p float64, err error) {
	var os, ps []float64
	for range b.rounds {
		value, err := ours()
		if err != nil {
			return 0, 0, err
		}
		os = append(os, value)
		if value, err = peer(); err != nil {
			return 0, 0, fmt.Errorf("peer: %w", err)
		}
		ps = append(ps, value)
	}
	return record.Median(os), record.Median(ps), nil
}

// more is a record where more is better; less is one where less is.
func (b bench) more(name, setting, unit string, ours, peer float64, peerName string) record.Record {
	r := record.Record{Name: "runs/" + name, Setting: setting, Unit: unit, Ours: ours, Peer: peer, PeerName: peerName, Ratio: ours / peer, Runs: b.rounds}
	return r
}

func (b bench) less(name, setting, unit string, ours, peer float64, peerName string) record.Record {
	r := b.more(name, setting, unit, ours, peer, peerName)
	r.Ratio = peer / ours
	return r
}

// perSecond lets so many clients do n things together and returns how many they did in a second.
func perSecond(n, clients int, do func(client, i int) error) (float64, error) {
	var next atomic.Int64
	var failed error
	var once sync.Once
	var group sync.WaitGroup
	begin := time.Now()
	for client := range clients {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(client, i); err != nil {
					once.Do(func() { failed = err })
					return
				}
			}
		})
	}
	group.Wait()
	return float64(n) / time.Since(begin).Seconds(), failed
}
