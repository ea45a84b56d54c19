package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"

	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// download writes the ONNX file of a detector and verifies its checksum before the file appears.
func (s *Session) download(ctx context.Context, d *trainerv1.Detector, file string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	trainer, err := client(s, trainerv1.NewTrainerServiceClient)
	if err != nil {
		return err
	}
	stream, err := trainer.DownloadDetector(ctx, &trainerv1.DownloadDetectorRequest{Name: d.GetName()})
	if err != nil {
		return err
	}
	var bytes uint64
	err = replaceFile(file, func(w io.Writer) error {
		sum := sha256.New()
		for {
			piece, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			sum.Write(piece.GetData())
			if _, err := w.Write(piece.GetData()); err != nil {
				return fmt.Errorf("write %s: %w", file, err)
			}
			bytes += uint64(len(piece.GetData()))
		}
		if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != d.GetModel() {
			return fmt.Errorf("download %s: the file is damaged: %s came, %q was announced; try again", d.GetName(), got, d.GetModel())
		}
		return nil
	})
	if err == nil && !s.json() {
		s.say("%s (%s) is in %s", d.GetName(), size(bytes), file)
	}
	return err
}

// writeMetrics writes a detector's description, with its measurements and curves, as indented JSON.
func writeMetrics(file string, d *trainerv1.Detector) error {
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(d)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "  "); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	text.WriteByte('\n')
	return replaceFile(file, func(w io.Writer) error {
		_, err := w.Write(text.Bytes())
		return err
	})
}

// replaceFile writes a file so that it appears whole or not at all; its folder is made where it is missing.
func replaceFile(file string, write func(io.Writer) error) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	temporary, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*"+partialSuffix)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	defer temporary.Close()
	if err := write(temporary); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return temporary.Chmod(0o644) }, temporary.Sync, temporary.Close,
		func() error { return os.Rename(temporary.Name(), file) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
	}
	return nil
}
