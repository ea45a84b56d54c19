package diffusion

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dreamood/dreamood/internal/onnx"
	"github.com/dreamood/dreamood/internal/onnx/onnxpb"
)

// requiredFiles of a model, relative to its folder.
var requiredFiles = []string{
	"model_index.json",
	"scheduler/scheduler_config.json",
	"text_encoder/model.onnx",
	"tokenizer/merges.txt",
	"tokenizer/vocab.json",
	"unet/model.onnx",
	"vae_decoder/model.onnx",
}

// optionalFiles count for the digest where they are there. The exporter of
// diffusers writes no configurations beside its graphs.
var optionalFiles = []string{
	"text_encoder/config.json",
	"tokenizer/special_tokens_map.json",
	"tokenizer/tokenizer_config.json",
	"unet/config.json",
	"vae_decoder/config.json",
}

// encoderFiles belong to a model where they are there, but pictures do not
// depend on them unless one is given to begin with.
var encoderFiles = []string{"vae_encoder/config.json", "vae_encoder/model.onnx"}

// supportedClasses of model_index.json: those of diffusers, of its ONNX
// exporter and of Optimum.
var supportedClasses = []string{
	"StableDiffusionPipeline", "OnnxStableDiffusionPipeline", "ORTStableDiffusionPipeline",
	"StableDiffusionImg2ImgPipeline", "OnnxStableDiffusionImg2ImgPipeline", "ORTStableDiffusionImg2ImgPipeline",
}

// Wanted names the files that are read of a model, each with whether it has to
// be there. External data of the graphs comes on top; ExternalData names it.
func Wanted() map[string]bool {
	all := map[string]bool{}
	for _, name := range requiredFiles {
		all[name] = true
	}
	for _, name := range slices.Concat(optionalFiles, encoderFiles) {
		all[name] = false
	}
	return all
}

// Files returns the files that are read of the model in dir, sorted, with the
// external data of its graphs: slash-separated, relative to dir.
func Files(dir string) ([]string, error) {
	return filesOf(dir, slices.Concat(optionalFiles, encoderFiles))
}

// filesOf is Files with these of the optional ones.
func filesOf(dir string, optional []string) ([]string, error) {
	names, err := present(dir, optional)
	if err != nil {
		return nil, err
	}
	names = append(names, requiredFiles...)
	for _, name := range slices.Clone(names) {
		if strings.HasSuffix(name, ".onnx") {
			external, err := ExternalData(dir, name)
			if err != nil {
				return nil, err
			}
			names = append(names, external...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// present returns those of the files that are in dir.
func present(dir string, names []string) ([]string, error) {
	var there []string
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			there = append(there, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return there, nil
}

// ExternalData names the files that hold data of a graph of the model in dir,
// whether they are there or not. None of the names leaves the graph's folder.
func ExternalData(dir, graph string) ([]string, error) {
	path := filepath.Join(dir, filepath.FromSlash(graph))
	data, err := onnx.ReadModel(path)
	if err != nil {
		return nil, err
	}
	info, err := onnxpb.Inspect(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	part, _, _ := strings.Cut(graph, "/")
	var names []string
	for _, external := range info.External {
		if err := onnx.CheckLocation(external); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		names = append(names, filepath.ToSlash(filepath.Join(part, filepath.FromSlash(external.Location))))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// checkLayout reports every file that is missing, and pipelines of another kind.
func checkLayout(dir string) error {
	var errs []error
	for _, name := range requiredFiles {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err := readIndex(dir)
	return err
}

// readIndex returns the class of the pipeline.
func readIndex(dir string) (string, error) {
	var index struct {
		ClassName string `json:"_class_name"`
	}
	path := filepath.Join(dir, "model_index.json")
	if err := readJSON(path, maxConfigFile, &index); err != nil {
		return "", err
	}
	if !slices.Contains(supportedClasses, index.ClassName) {
		return "", fmt.Errorf("%s: pipeline %q is not supported, want %s", path, index.ClassName, strings.Join(supportedClasses, ", "))
	}
	return index.ClassName, nil
}

// vet looks at every file of the model before anything is loaded: no link leads
// out of the folder, and the graphs are what onnx.Vet takes. It returns what
// the graphs say about themselves, by part.
func vet(dir string) (map[string]*onnxpb.Info, error) {
	if err := checkLayout(dir); err != nil {
		return nil, err
	}
	names, err := present(dir, slices.Concat(optionalFiles, encoderFiles))
	if err != nil {
		return nil, err
	}
	infos := map[string]*onnxpb.Info{}
	for _, name := range slices.Concat(requiredFiles, names) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := Inside(dir, name); err != nil {
			return nil, err
		}
		if part, file, _ := strings.Cut(name, "/"); file == "model.onnx" {
			if infos[part], err = onnx.Vet(path); err != nil {
				return nil, err
			}
		}
	}
	return infos, nil
}

// vetTextEncoder is vet for the text encoder and the tokenizer.
func vetTextEncoder(dir string) error {
	for name, required := range Wanted() {
		part, file, _ := strings.Cut(name, "/")
		if part != "text_encoder" && part != "tokenizer" {
			continue
		}
		err := Inside(dir, name)
		if errors.Is(err, fs.ErrNotExist) && !required {
			continue
		}
		if err == nil && file == "model.onnx" {
			_, err = onnx.Vet(filepath.Join(dir, filepath.FromSlash(name)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Inside refuses a file of the folder that is none, or a link out of it.
func Inside(dir, name string) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	_, err = StatInside(root, filepath.Join(dir, filepath.FromSlash(name)))
	return err
}

// StatInside looks at a regular file of a model. Links are followed as long as they stay in root, which has none itself.
func StatInside(root, path string) (fs.FileInfo, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if rel, err := filepath.Rel(root, real); err != nil || !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("%s links to %s, out of the model's folder: put the file itself there", path, real)
	}
	stat, err := os.Stat(real)
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return stat, nil
}
