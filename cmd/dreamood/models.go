package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// parts are the files of a diffusion model in the stock Diffusers/Optimum ONNX layout that dreamood reads.
var parts = []string{
	"tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json",
	"text_encoder/model.onnx", "unet/model.onnx", "vae_decoder/model.onnx",
}

// checkModels looks at every diffusion model in a folder. One whole model is needed.
func checkModels(dir string) []finding {
	found, _ := filepath.Glob(filepath.Join(dir, "*", "model_index.json"))
	if len(found) == 0 {
		return []finding{{Check: "models", Grade: missing, Found: fmt.Sprintf("no model in %s", dir),
			Remedy: "run dreamood where the project's models folder is, or name it with --models"}}
	}
	var list []finding
	whole := false
	for _, index := range found {
		f := checkModel(filepath.Dir(index))
		whole = whole || f.Grade == good
		list = append(list, f)
	}
	for i := range list {
		if whole && list[i].Grade == missing {
			list[i].Grade = note // another one can be used
		}
	}
	return list
}

// checkModel looks whether all parts of a model are there.
func checkModel(dir string) finding {
	f := finding{Check: "model", Grade: good}
	var problems []string
	raw, err := os.ReadFile(filepath.Join(dir, "model_index.json"))
	if err != nil {
		problems = append(problems, err.Error())
	} else if !json.Valid(raw) {
		problems = append(problems, "model_index.json is no JSON")
	}
	for _, part := range parts {
		if problem := checkPart(filepath.Join(dir, filepath.FromSlash(part))); problem != "" {
			problems = append(problems, part+" "+problem)
		}
	}
	if len(problems) > 0 {
		f.Grade, f.Found = missing, fmt.Sprintf("%s: %s", dir, strings.Join(problems, "; "))
		f.Remedy = "fetch the model again (the stock ONNX layout: optimum-cli export onnx), or check the working copy"
		return f
	}
	total, sizes := weigh(dir)
	f.Found = fmt.Sprintf("%s, %s (%s)", dir, size(total), strings.Join(sizes, ", "))
	return f
}

// checkPart says what is wrong with a file of a model, or "".
func checkPart(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return "is missing"
	}
	defer file.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(file, head)
	switch {
	case n == 0:
		return "is empty"
	case err != nil && err != io.ErrUnexpectedEOF:
		return "cannot be read: " + err.Error()
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return "is only a Git LFS pointer (git lfs pull fetches it)"
	}
	return ""
}

// weigh is the size of a model's files in bytes, and that of its large parts in words.
func weigh(dir string) (total uint64, sizes []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, nil
	}
	for _, entry := range entries {
		var part uint64
		filepath.WalkDir(filepath.Join(dir, entry.Name()), func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil
			}
			if info, err := e.Info(); err == nil {
				part += uint64(info.Size())
			}
			return nil
		})
		total += part
		if part >= megabyteCut {
			sizes = append(sizes, entry.Name()+" "+size(part))
		}
	}
	return total, sizes
}
