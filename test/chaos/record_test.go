package chaos

import (
	"sync"
	"time"
)

// records are the figures of `make chaos`.
var records record

type record struct {
	mu    sync.Mutex
	Kills []killRow
}

type killRow struct {
	killing
	Struck    []string
	Lost      int
	Doubles   int
	Wrong     int
	Revisions uint64
	Audited   uint64
	Seconds   float64
}

func (r *record) add(k killing, struck []string, v verdict, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Kills = append(r.Kills, killRow{k, struck, len(v.Lost), len(v.Double), len(v.Wrong), v.Revisions, v.Seen, took.Seconds()})
}
