package test

import (
	"context"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/dreamood/dreamood/internal/app"
)

func TestStoryInOneProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("trains and renders for some minutes")
	}
	ctx := context.Background()
	a, err := app.New(ctx, app.Config{Data: t.TempDir(), Models: "../models", Datasets: []string{"../sample"}}, zaptest.NewLogger(t))
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
	story(t, mesh{conn, conn, conn, conn})
}
