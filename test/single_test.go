package test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/dreamood/dreamood/internal/app"
)

func TestStoryInOneProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for some minutes")
	}
	m := startOne(t)
	end := story(t, m)
	if dir := os.Getenv("DREAMOOD_PARITY_DIR"); dir != "" {
		recordParity(t, m, end, dir)
	}
}

// startOne runs all roles and an embedded NATS server in this process.
func startOne(t *testing.T) mesh {
	ctx, dir := context.Background(), t.TempDir()
	a, err := app.New(ctx, app.Config{
		Data: filepath.Join(dir, "data"), Models: "../models", Datasets: []string{"../sample", dir},
	}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := a.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return mesh{conn, conn, conn, conn, trainingSet(t, dir)}
}
