package test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/dreamood/dreamood/"

// science are the packages of internal/ that hold a method. They know nothing of transport, in what they import and
// in what that imports.
var science = []string{"dataset", "diffusion", "embedmap", "fit", "infer", "knn", "matrix", "npy", "philox", "project", "score", "score/method", "simd", "train"}

// transport are the files of a role that may know of messages, gRPC, NATS and zap; all others hold its method.
var transport = []string{"service.go", "config.go", "server.go", "admit.go", "settings.go", "worker.go"}

// translating are further files of one role that talk to other roles or turn messages into values and back.
var translating = map[string][]string{
	"embedder":  {"bank.go"},
	"sampler":   {"bank.go", "source.go", "sets.go", "shard.go"},
	"generator": {"hand.go", "init.go", "job.go", "live.go", "shard.go", "record.go", "judge.go", "gate_settings.go", "reconstruct.go", "select.go", "assemble.go", "estimate.go"},
	"trainer":   {"augmentation.go", "settings_engine.go", "outliers.go", "convert.go", "versions.go", "methods.go", "method_randomprompt.go", "method_vos.go", "codec.go"},
}

// carriers are what the science must not import.
var carriers = []string{"google.golang.org/grpc", "github.com/nats-io/", "go.uber.org/zap", module + "proto/", module + "internal/rpc",
	module + "internal/bus", module + "internal/runs", module + "internal/catalog"}

// listed is a package as `go list -json` shows it; the paths of this module's packages lack the module.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "../...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		list = append(list, p)
	}
}

// TestImportsPointOneWay holds the import table of the design: cmd, app, services, internal leaves, in this order.
func TestImportsPointOneWay(t *testing.T) {
	list := packages(t)
	if len(list) < 30 {
		t.Fatalf("go list names %d packages; the test looks in the wrong place", len(list))
	}
	for _, p := range list {
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			own, ours := strings.CutPrefix(imported, module)
			ours = ours && !(own == "internal/bus" && !slices.Contains(p.Imports, imported)) // tests run a real queue
			if reason := forbidden(p.ImportPath, own); ours && reason != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, own, reason)
			}
			if imported == "github.com/yalue/onnxruntime_go" && p.ImportPath != "internal/onnx" {
				t.Errorf("%s imports %s; only internal/onnx does", p.ImportPath, imported)
			}
		}
	}
}

// forbidden says why a package of this module may not import another one, or "".
func forbidden(importer, imported string) string {
	layer := func(p string) string {
		top, _, _ := strings.Cut(p, "/")
		if p == "internal/app" {
			return "app"
		}
		return top
	}
	from, to := layer(importer), layer(imported)
	switch {
	case from == "proto" && to != "proto":
		return "generated code imports generated code alone"
	case importer == "internal/ood" || importer == "internal/fault":
		return "it imports nothing of ours"
	case from == "internal" && (to == "cmd" || to == "app" || to == "services" || to == "test"):
		return "a leaf imports nothing above it"
	case from == "services" && (to == "cmd" || to == "app" || to == "test" || imported == "internal/bus"):
		return "a service knows neither who puts it together nor the connection"
	case from == "services" && to == "services" && importer != imported:
		return "a service never imports another service"
	case from == "app" && (to == "cmd" || to == "test"):
		return "app imports nothing above it"
	case from == "cmd" && to == "services":
		return "cmd starts roles through app and talks to them through the generated clients"
	case to == "cmd":
		return "nothing imports a command"
	}
	return ""
}

func TestForbiddenImportsAreFound(t *testing.T) {
	for _, edge := range [][2]string{
		{"services/sampler", "services/embedder"}, {"services/sampler", "internal/app"}, {"services/sampler", "internal/bus"},
		{"internal/knn", "services/sampler"}, {"internal/knn", "internal/app"}, {"internal/ood", "internal/fault"},
		{"internal/app", "cmd/dreamood"}, {"cmd/dreamood", "services/sampler"}, {"proto/dreamood/run/v1", "internal/ood"},
	} {
		if forbidden(edge[0], edge[1]) == "" {
			t.Errorf("%s may import %s", edge[0], edge[1])
		}
	}
	for _, edge := range [][2]string{
		{"cmd/dreamood", "internal/app"}, {"internal/app", "services/sampler"}, {"services/sampler", "internal/knn"},
		{"internal/fit", "internal/train"}, {"services/sampler", "proto/dreamood/sampler/v1"},
	} {
		if reason := forbidden(edge[0], edge[1]); reason != "" {
			t.Errorf("%s may not import %s: %s", edge[0], edge[1], reason)
		}
	}
}

// TestSciencePackagesKnowNoTransport looks at all that the science packages depend on.
func TestSciencePackagesKnowNoTransport(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		name, internal := strings.CutPrefix(p.ImportPath, "internal/")
		if !internal || !slices.Contains(science, name) {
			continue
		}
		seen++
		for _, d := range p.Deps {
			if carries(d) {
				t.Errorf("%s depends on %s", p.ImportPath, d)
			}
		}
	}
	if seen != len(science) {
		t.Errorf("%d of the %d science packages are there", seen, len(science))
	}
}

// TestMethodsOfRolesKnowNoTransport looks at every file of a role that is not its transport.
func TestMethodsOfRolesKnowNoTransport(t *testing.T) {
	files, err := filepath.Glob("../services/*/*.go")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files of services, %v", len(files), err)
	}
	for _, file := range files {
		role, base := path.Base(filepath.ToSlash(filepath.Dir(file))), filepath.Base(file)
		if strings.HasSuffix(base, "_test.go") || slices.Contains(transport, base) || slices.Contains(translating[role], base) {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if carries(name) {
				t.Errorf("%s imports %s; it holds the method of the role", file, name)
			}
		}
	}
}

func carries(imported string) bool {
	return slices.ContainsFunc(carriers, func(c string) bool { return strings.HasPrefix(imported, c) })
}
