package runs

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestPointsAreListed compares the points in the code with the list that chaos tests go through.
func TestPointsAreListed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var called []string
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			called = append(called, pointsIn(t, file)...)
		}
	}
	slices.Sort(called)
	listed := Points()
	slices.Sort(listed)
	if twice := slices.Compact(slices.Clone(listed)); len(twice) != len(listed) {
		t.Errorf("a point is listed twice: %q", listed)
	}
	for _, name := range slices.Compact(called) {
		if !slices.Contains(listed, name) {
			t.Errorf("point %q is in the code, but not in the list of point.go: chaos tests do not know it", name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(called, name) {
			t.Errorf("point %q is in the list of point.go, but not in the code", name)
		}
	}
}

// pointsIn names the points of a source file: the calls of point and step with a literal.
func pointsIn(t *testing.T, file string) (called []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || f.Sel.Name != "point" && f.Sel.Name != "step" {
			return true
		}
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok { // attempt.step puts its names together out of two parts
			return true
		}
		name, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		if f.Sel.Name == "step" {
			called = append(called, "shard."+name, "finish."+name, "plan."+name)
		} else {
			called = append(called, name)
		}
		return true
	})
	return called
}

// TestPointsInOrder follows one run of one shard through its points.
func TestPointsInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var passed []string
	b := openBus(t, t.TempDir())
	s, err := New(t.Context(), fast, Deps{JS: b.JetStream(), Point: func(name string) {
		mu.Lock()
		defer mu.Unlock()
		passed = append(passed, name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	run := submit(t, s, Spec{})
	stop := serve(t, s, Worker{Kind: "dream", Work: func(context.Context, *Task) ([]byte, error) { return nil, nil }})
	await(t, s, run.ID)
	wantEmptyQueue(t, s)
	stop()
	want := []string{
		"submit.reserved", "submit.created", "submit.announced", "submit.published", "message.received",
		"shard.claimed", "shard.worked", "shard.committed", "shard.announced",
		"finish.claimed", "finish.worked", "finish.committed", "finish.announced", "message.acked",
	}
	if !slices.Equal(passed, want) {
		t.Errorf("passed %q\nwant   %q", passed, want)
	}
}
