package dataset

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes two roots and a folder outside them, with links that lead from one to the other.
func tree(t *testing.T) (base string, roots Roots) {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"a/cats/x.png", "b/dogs.zip", "b/cats2/x.png", "outside/secret.zip"} {
		if err := os.MkdirAll(filepath.Join(base, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"a/within": "cats", "a/other-root": "../b/dogs.zip", "a/file-out": "../outside/secret.zip", "a/folder-out": "../outside",
		"a/nowhere": "../outside/none", "root-link": "a", "outside/in": "../a",
	} {
		if err := os.Symlink(target, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	return base, Roots{filepath.Join(base, "a"), filepath.Join(base, "b")}
}

func TestRootsResolve(t *testing.T) {
	base, roots := tree(t)
	for path, want := range map[string]string{
		base + "/a/cats": "a/cats", base + "/a": "a", "cats": "a/cats", "dogs.zip": "b/dogs.zip", "./cats/": "a/cats",
		"cats/../cats/x.png": "a/cats/x.png", base + "/outside/../b/dogs.zip": "b/dogs.zip",
		"within/x.png": "a/cats/x.png", "other-root": "b/dogs.zip", base + "/outside/in/cats": "a/cats", base + "/root-link/cats": "a/cats",
	} {
		if got, err := roots.Resolve(path); err != nil || got != filepath.Join(base, want) {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
	// Roots that are a link themselves, or relative.
	linked := Roots{filepath.Join(base, "root-link")}
	for _, path := range []string{"cats", base + "/root-link/cats", base + "/a/cats"} {
		if got, err := linked.Resolve(path); err != nil || got != filepath.Join(base, "a/cats") {
			t.Errorf("%s below a root that is a link: %s, %v", path, got, err)
		}
	}
	t.Chdir(filepath.Join(base, "b"))
	for _, path := range []string{"cats", base + "/a/cats"} {
		if got, err := (Roots{"../a"}).Resolve(path); err != nil || got != filepath.Join(base, "a/cats") {
			t.Errorf("%s below a relative root: %s, %v", path, got, err)
		}
	}
	if _, err := (Roots{"../a"}).Resolve("none"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("what is not there below a relative root: %v", err)
	}
}

func TestRootsRefuse(t *testing.T) {
	base, roots := tree(t)
	const missing, outside = "does not exist on the server", "lies outside the dataset roots"
	for path, want := range map[string]string{
		"": "no path", "a\x00b": "no path", base + "/a/cats\x00/../../outside": "no path",
		"none": missing, base + "/b/none/deeper": missing, "cats/none": missing, "within/none": missing,
		base + "/b/dogs.zip/train": missing, // a path into an archive

		// What is there outside and what is not get the same answer.
		base + "/outside": outside, base + "/outside/secret.zip": outside, base + "/outside/none": outside, "/etc": outside, "/none": outside,
		"../outside/secret.zip": outside, "../outside/none": outside, "cats/../../outside": outside, base + "/a/../outside/none": outside,
		base + "/a/file-out": outside, base + "/a/nowhere": outside, base + "/a/nowhere/none": outside, base + "/a/folder-out": outside,
		base + "/a/folder-out/secret.zip": outside, base + "/a/folder-out/none": outside, base + "/outside/secret.zip/none": outside,
		// Relative to the other root it might be there.
		"file-out": missing, "nowhere": missing, "folder-out/secret.zip": missing, "folder-out/none": missing,
		// A folder whose name begins with that of a root is another one.
		base + "/ab": outside, "..": outside, "~": missing,
	} {
		got, err := roots.Resolve(path)
		if err == nil || !strings.Contains(err.Error(), want) || got != "" {
			t.Errorf("%q: %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := (Roots{}).Resolve("cats"); err == nil || !strings.Contains(err.Error(), outside) {
		t.Errorf("without roots: %v", err)
	}
	if _, err := (Roots{base + "/none"}).Resolve("cats"); err == nil {
		t.Error("a root that is not there holds cats")
	}
}
