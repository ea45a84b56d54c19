package main

import (
	"fmt"
	"time"

	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
)

// estimate prints what a set would cost. One that does not fit on the disk is a failure.
func (s *Session) estimate(e *generatorv1.Estimate) error {
	short := e.FreeBytes != nil && e.GetFreeBytes() < e.GetBytes()
	if s.json() {
		if err := s.object(e); err != nil {
			return err
		}
	} else {
		var t table
		pictures := fmt.Sprint(e.GetPictures())
		if e.GetMostRendered() > e.GetPictures() {
			pictures += fmt.Sprintf(", at most %d rendered", e.GetMostRendered())
		}
		t.row("pictures", pictures)
		t.row("U-Net evaluations", e.GetUnetEvaluations())
		t.row("shards", e.GetShards())
		t.row("a picture takes", e.GetPerPicture().AsDuration().Round(100*time.Microsecond))
		t.row("one worker takes", span(e.GetTime().AsDuration()))
		t.row("bytes", size(uint64(e.GetBytes())))
		if e.FreeBytes != nil {
			t.row("free there", size(uint64(e.GetFreeBytes())))
		}
		t.row("measured", e.GetBasis())
		t.print(s.Out)
	}
	if short {
		return fmt.Errorf("the pictures need %s and %s are free: make room, or ask for fewer", size(uint64(e.GetBytes())), size(uint64(e.GetFreeBytes())))
	}
	return nil
}
