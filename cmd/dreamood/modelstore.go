package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dreamood/dreamood/internal/hub"
	"github.com/dreamood/dreamood/internal/modelstore"
)

// ModelsCmd keeps the folder of diffusion models.
type ModelsCmd struct {
	List   ModelsListCmd   `cmd:"" help:"Say which models are there, and which can be used."`
	Add    ModelsAddCmd    `cmd:"" help:"Copy a model from a folder."`
	Verify ModelsVerifyCmd `cmd:"" help:"Read all files of models again and compare their checksums."`
	Pull   ModelsPullCmd   `cmd:"" help:"Download a model from the Hugging Face Hub."`
	Remove ModelsRemoveCmd `cmd:"" help:"Remove a model that was added or pulled."`
}

// Help teaches the commands.
func (ModelsCmd) Help() string {
	return `They work on the folder that serve reads, without a server; a server that runs loads what has changed within seconds,
lets renderings under way end with the old files, and keeps the old ones where the new ones cannot be used.

    dreamood models pull sd15 ORG/NAME --revision onnx
    dreamood models add mine exported/
    dreamood models list
    dreamood models verify

Only files that are read of a model are copied: its graphs with their external data, its configurations and its
tokenizer. A model that is not whole, or that tries to read outside its folder, is refused.`
}

// ModelsFolder is the folder that the commands work on.
type ModelsFolder struct {
	Models string `default:"models" type:"path" env:"DREAMOOD_MODELS" placeholder:"DIR" help:"Folder of diffusion models, that of serve (default models)."`
}

func (f ModelsFolder) open(s *Session) *modelstore.Store {
	store := modelstore.Open(f.Models)
	store.Waiting = func(name string) { s.hint("another process changes the model %s; waiting for it", name) }
	return store
}

// ModelsListCmd lists the models.
type ModelsListCmd struct{ ModelsFolder }

// Run lists.
func (c *ModelsListCmd) Run(s *Session) error {
	list, err := c.open(s).List()
	if err != nil {
		return fmt.Errorf("models: %w; name the folder with --models", err)
	}
	t := table{}
	t.row("MODEL", "STATE", "PICTURES", "TOKENS", "PRECISION", "PREDICTS", "SIZE", "DIGEST", "SOURCE")
	for _, e := range list {
		if s.json() {
			if err := json.NewEncoder(s.Out).Encode(modelLine(e)); err != nil {
				return err
			}
			continue
		}
		d, digest, source := e.Description, "-", "by hand"
		if e.Manifest != nil {
			digest, source = e.Manifest.Digest[:min(12, len(e.Manifest.Digest))], e.Manifest.Source.String()
		}
		if e.Err != nil {
			t.row(e.Name, "cannot be used", "-", "-", "-", "-", "-", digest, source)
			continue
		}
		pictures, tokens := "-", "-"
		if d.PictureWidth > 0 {
			pictures = fmt.Sprintf("%d×%d", d.PictureWidth, d.PictureHeight)
		}
		if d.Width > 0 {
			tokens = fmt.Sprint(d.Width)
		}
		t.row(e.Name, "good", pictures, tokens, d.Precision, d.Prediction, size(uint64(d.Bytes)), digest, source)
	}
	if s.json() {
		return nil
	}
	t.print(s.Out)
	for _, e := range list {
		if e.Err != nil {
			s.complain("%s: %v", e.Name, e.Err)
		}
	}
	if len(list) == 0 {
		s.hint("no model in %s; dreamood models pull and add put some there", c.Models)
	}
	return nil
}

// modelLine is a model as JSON.
func modelLine(e modelstore.Entry) map[string]any {
	line := map[string]any{"name": e.Name, "usable": e.Err == nil, "folder": e.Dir}
	if e.Err != nil {
		line["problem"] = e.Err.Error()
	} else {
		d := e.Description
		line["width"], line["height"], line["dimension"], line["latents"] = d.PictureWidth, d.PictureHeight, d.Width, d.Latents
		line["precision"], line["prediction"], line["scheduler"], line["bytes"] = d.Precision, d.Prediction, d.Scheduler, d.Bytes
	}
	if e.Manifest != nil {
		line["digest"], line["source"], line["added"] = e.Manifest.Digest, e.Manifest.Source, e.Manifest.Added
	}
	return line
}

// ModelsAddCmd adds a model.
type ModelsAddCmd struct {
	Name   string `arg:"" help:"Name of the model in requests: 1 to 63 of a-z 0-9 - _."`
	Folder string `arg:"" type:"path" help:"Folder in the stock Diffusers or Optimum ONNX layout; a snapshot in the cache of the Hugging Face Hub too."`
	ModelsFolder
	Replace bool `help:"Replace the model of that name, in one step."`
}

// Run copies.
func (c *ModelsAddCmd) Run(ctx context.Context, s *Session) error {
	p := s.bytesOf("add " + c.Name)
	m, err := c.open(s).Add(ctx, c.Name, c.Folder, modelstore.Options{Replace: c.Replace, Progress: p.told})
	p.bar.close()
	if err != nil {
		return replaceable(err, c.Replace)
	}
	return s.kept(c.Name, m, true)
}

// ModelsPullCmd pulls a model.
type ModelsPullCmd struct {
	Name string `arg:"" help:"Name of the model in requests: 1 to 63 of a-z 0-9 - _."`
	Repo string `arg:"" placeholder:"ORG/NAME" help:"Repository of the hub, with a model in the stock ONNX layout."`
	ModelsFolder
	Revision string `default:"main" placeholder:"REV" help:"Branch, tag or commit (default main). Older repositories keep their ONNX files on the branch onnx."`
	Replace  bool   `help:"Replace a model of that name from elsewhere, in one step."`

	Endpoint string `env:"HF_ENDPOINT" placeholder:"URL" help:"Server that speaks the hub's protocol (default https://huggingface.co)."`
	Token    string `env:"HF_TOKEN" placeholder:"TOKEN" help:"Token for models that are not for everybody; better in the environment. It is sent to the endpoint alone."`
}

// Help teaches the command.
func (ModelsPullCmd) Help() string {
	return `    dreamood models pull sd15 ORG/NAME --revision onnx

Cut off, it goes on where it was when it is called again. Every file is compared with the checksum that the hub gives;
the model appears when all of it is there. A model that is of the same commit already is only checked. HF_ENDPOINT names
another server, HTTPS_PROXY a proxy.`
}

// Run downloads.
func (c *ModelsPullCmd) Run(ctx context.Context, s *Session) error {
	p := s.bytesOf("pull " + c.Name)
	client, err := hub.New(hub.Config{Endpoint: c.Endpoint, Token: c.Token, Agent: "dreamood/" + version, Note: func(what string) { p.bar.note("%s", what) }})
	if err != nil {
		return usage("%w", err)
	}
	defer client.Close()
	m, changed, err := c.open(s).Pull(ctx, client, c.Name, c.Repo, c.Revision, modelstore.Options{Replace: c.Replace, Progress: p.told})
	p.bar.close()
	if err != nil {
		return replaceable(err, c.Replace)
	}
	return s.kept(c.Name, m, changed)
}

func replaceable(err error, replace bool) error {
	if errors.Is(err, modelstore.ErrExists) && !replace {
		return fmt.Errorf("%w with --replace", err)
	}
	return err
}

// kept says what is in the store now.
func (s *Session) kept(name string, m modelstore.Manifest, changed bool) error {
	if s.json() {
		return json.NewEncoder(s.Out).Encode(map[string]any{"name": name, "digest": m.Digest, "source": m.Source, "files": m.Files, "changed": changed})
	}
	total := int64(0)
	for _, f := range m.Files {
		total += f.Bytes
	}
	what := "is in the store"
	if !changed {
		what = "was in the store already, unchanged"
	}
	s.say("%s %s: %d files, %s, digest %s, from %s", name, what, len(m.Files), size(uint64(total)), m.Digest, m.Source.String())
	return nil
}

// ModelsVerifyCmd verifies models.
type ModelsVerifyCmd struct {
	Names []string `arg:"" optional:"" name:"name" help:"Models (default: all)."`
	ModelsFolder
}

// Run compares.
func (c *ModelsVerifyCmd) Run(ctx context.Context, s *Session) error {
	store := c.open(s)
	names := c.Names
	if len(names) == 0 {
		list, err := store.List()
		if err != nil {
			return fmt.Errorf("models: %w; name the folder with --models", err)
		}
		for _, e := range list {
			names = append(names, e.Name)
		}
	}
	bad := 0
	for _, name := range names {
		p := s.bytesOf("verify " + name)
		digest, list, err := store.Verify(ctx, name, p.told)
		p.bar.close()
		if err != nil {
			return err
		}
		if len(list) > 0 {
			bad++
		}
		if err := s.verified(name, digest, list); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d models are not as they should be; dreamood models pull or add --replace brings one anew", bad, len(names))
	}
	return nil
}

func (s *Session) verified(name, digest string, list []modelstore.Difference) error {
	if s.json() {
		problems := []map[string]string{}
		for _, d := range list {
			problems = append(problems, map[string]string{"file": d.Path, "problem": d.Problem})
		}
		return json.NewEncoder(s.Out).Encode(map[string]any{"name": name, "digest": digest, "good": len(list) == 0, "problems": problems})
	}
	if len(list) == 0 {
		s.say("%s: good, digest %s", name, digest)
	}
	for _, d := range list {
		file := d.Path
		if file == "" {
			file = "as a whole"
		}
		s.say("%s: %s: %s", name, file, d.Problem)
	}
	return nil
}

// ModelsRemoveCmd removes a model.
type ModelsRemoveCmd struct {
	Name string `arg:"" help:"Name of the model."`
	ModelsFolder
}

// Run removes.
func (c *ModelsRemoveCmd) Run(ctx context.Context, s *Session) error {
	if err := c.open(s).Remove(ctx, c.Name); err != nil {
		return err
	}
	if !s.json() {
		s.say("%s is removed", c.Name)
	}
	return nil
}

// bytesProgress shows how many bytes are there.
type bytesProgress struct {
	bar  *progress
	what string
	last time.Time
}

func (s *Session) bytesOf(what string) *bytesProgress {
	return &bytesProgress{bar: s.progress(), what: what}
}

const megabyte = 1_000_000

func (p *bytesProgress) told(file string, done, total int64) {
	if now := time.Now(); now.Sub(p.last) >= 100*time.Millisecond || done == total {
		p.last = now
		p.bar.show(standing{what: p.what, done: (done + megabyte - 1) / megabyte, total: (total + megabyte - 1) / megabyte, unit: "MB", message: file})
	}
}
