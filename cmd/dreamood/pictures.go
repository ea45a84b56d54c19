package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dreamood/dreamood/internal/fault"
)

// The server's limits on pictures in a message.
const (
	maxPictureBytes = 16 << 20
	maxBatch        = 64
	maxBatchBytes   = 32 << 20
)

// findPictures lists the files among args, and the pictures below the folders among them, in order of their names.
func findPictures(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, usage("%w", err)
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		before := len(files)
		err = filepath.WalkDir(arg, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() && isPicture(path) {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(files) == before {
			return nil, usage("%s holds no picture (.png, .jpg, .jpeg, .webp)", arg)
		}
	}
	return files, nil
}

func isPicture(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".png", ".jpg", ".jpeg", ".webp":
		return true
	}
	return false
}

// readPicture reads a file that can be sent.
func readPicture(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, usage("%s is no regular file", name)
	case info.Size() > maxPictureBytes:
		return nil, usage("%s has %s; a picture may have at most %s", name, size(uint64(info.Size())), size(maxPictureBytes))
	}
	return os.ReadFile(name)
}

// exchange sends files in batches over the stream that open opens, and hands every answer to take together with the
// files that it is about. Files are read and sent while the server works. message is told whether it is the first.
func exchange[Q, R any](ctx context.Context, files []string,
	open func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[Q, R], error),
	message func(images [][]byte, first bool) *Q, take func(batch []string, answer *R) error) error {
	group, ctx := errgroup.WithContext(ctx) // ends the stream as soon as either side gives up
	stream, err := open(ctx)
	if err != nil {
		return err
	}
	sent := make(chan []string, 2)
	group.Go(func() error {
		defer close(sent)
		for first := true; len(files) > 0; first = false {
			batch, images, err := nextBatch(files)
			if err != nil {
				return err
			}
			select { // the batch is announced first, so that its files are known when the server refuses it
			case sent <- batch:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := stream.Send(message(images, first)); errors.Is(err, io.EOF) {
				return nil // the server has ended the stream; Recv says why
			} else if err != nil {
				return err
			}
			files = files[len(batch):]
		}
		return stream.CloseSend()
	})
	group.Go(func() error {
		for batch := range sent {
			answer, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("%s: the server ended the stream without an answer", batch[0])
			}
			if err != nil {
				return nameFile(err, batch)
			}
			if err := take(batch, answer); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// nextBatch reads the first of files, as many as one message may carry.
func nextBatch(files []string) (batch []string, images [][]byte, err error) {
	total := 0
	for _, name := range files {
		if len(batch) == maxBatch {
			break
		}
		image, err := readPicture(name)
		if err != nil {
			return nil, nil, err
		}
		if total += len(image); total > maxBatchBytes && len(batch) > 0 {
			break
		}
		batch, images = append(batch, name), append(images, image)
	}
	return batch, images, nil
}

// nameFile puts the names of files in place of "images[3]" in the server's complaints.
func nameFile(err error, batch []string) error {
	var f *fault.Error
	if !errors.As(err, &f) || len(f.Violations) == 0 {
		return err
	}
	named := *f
	named.Violations = append([]fault.Violation(nil), f.Violations...)
	for i, v := range named.Violations {
		var index int
		if n, _ := fmt.Sscanf(v.Field, "images[%d]", &index); n == 1 && index >= 0 && index < len(batch) {
			named.Violations[i].Field = batch[index]
		}
	}
	return &named
}
