package main

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// tarShards writes pictures in the order of WebDataset: the files of a sample one after another, CLASS/INDEX.cls, .json
// and .png. The same pictures give the same bytes.
type tarShards struct {
	to     destination
	most   int // pictures per shard
	number int // of the shard that comes now
	count  int // of its pictures
	file   *os.File
	w      *tar.Writer
	labels map[string]int // of classes whose records have none
}

func (t *tarShards) name() string { return tarName(t.number) }

func tarName(number int) string { return fmt.Sprintf("shard-%06d.tar", number) }

func (t *tarShards) add(ctx context.Context, p *generatorv1.Picture) error {
	if t.file == nil {
		file, err := t.to.scratch(t.name())
		if err != nil {
			return err
		}
		t.file, t.w, t.count = file, tar.NewWriter(file), 0
	}
	record, err := jsonLine(p.GetRecord())
	if err != nil {
		return err
	}
	stem := strings.TrimSuffix(p.GetRecord().GetFile(), ".png")
	for _, member := range []struct {
		suffix string
		data   []byte
	}{{".cls", []byte(strconv.Itoa(t.label(p.GetRecord())))}, {".json", record}, {".png", p.GetPng()}} {
		// The format is the oldest that can hold the name: PAX for class names that are not ASCII.
		h := &tar.Header{Name: stem + member.suffix, Size: int64(len(member.data)), Mode: 0o644, ModTime: time.Unix(0, 0)}
		if err := t.w.WriteHeader(h); err != nil {
			return fmt.Errorf("export to %s: %s: %w", t.to, h.Name, err)
		}
		if _, err := t.w.Write(member.data); err != nil {
			return fmt.Errorf("export to %s: %s: %w", t.to, t.name(), err)
		}
	}
	if t.count++; t.count == t.most {
		return t.flush(ctx)
	}
	return nil
}

// flush puts the shard that is being written in place.
func (t *tarShards) flush(ctx context.Context) error {
	if t.file == nil {
		return nil
	}
	if err := t.w.Close(); err != nil {
		return fmt.Errorf("export to %s: %s: %w", t.to, t.name(), err)
	}
	file := t.file
	t.file = nil
	err := t.to.place(ctx, t.name(), file)
	t.number++
	return err
}

// discard removes a shard that was not finished.
func (t *tarShards) discard() {
	if t.file != nil {
		t.to.discard(t.name(), t.file)
		t.file = nil
	}
}

// label is that of the space, or where records have none the place of the class among those that came.
func (t *tarShards) label(r *generatorv1.PictureRecord) int {
	if r.Label != nil {
		return int(*r.Label)
	}
	if t.labels == nil {
		t.labels = map[string]int{}
	}
	label, ok := t.labels[r.Class]
	if !ok {
		label = len(t.labels)
		t.labels[r.Class] = label
	}
	return label
}
