package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dreamood/dreamood/internal/ood"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// stepKinds are the keys that say what a step does.
var stepKinds = map[string]struct {
	kind    string
	request func() proto.Message
	names   map[string]ood.Collection // fields that name a resource; its id alone will do
}{
	"space":      {"train-space", func() proto.Message { return &embedderv1.TrainSpaceRequest{} }, nil},
	"embeddings": {"sample-set", func() proto.Message { return &samplerv1.SampleSetRequest{} }, map[string]ood.Collection{"space": ood.Spaces}},
	"set":        {"render-set", func() proto.Message { return &generatorv1.RenderSetRequest{} }, map[string]ood.Collection{"space": ood.Spaces}},
	"detector":   {"train-detector", func() proto.Message { return &trainerv1.TrainDetectorRequest{} }, map[string]ood.Collection{"set": ood.Sets}},
	"evaluation": {"evaluate-detector", func() proto.Message { return &trainerv1.EvaluateDetectorRequest{} }, map[string]ood.Collection{"name": ood.Detectors}},
}

// pipelineFile reads a pipeline and collects everything that is wrong with it, by line.
type pipelineFile struct {
	name, dir string // of the file; relative datasets are looked for in dir
	problems  []string
}

// read returns the request that the file asks for.
func (f *pipelineFile) read(data []byte) (*runv1.SubmitPipelineRequest, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, usage("read %s: %w", f.name, err)
	}
	if len(doc.Content) == 0 {
		return nil, usage("%s is empty; `dreamood pipeline run --help` shows a pipeline", f.name)
	}
	q := &runv1.SubmitPipelineRequest{}
	f.each(doc.Content[0], "the pipeline", func(key, value *yaml.Node) {
		switch key.Value {
		case "name":
			q.PipelineId = f.text(value)
		case "steps":
			if value = target(value); value.Kind != yaml.SequenceNode {
				f.wrong(value, "steps: want a list, one step per `- `")
				return
			}
			for _, step := range value.Content {
				q.Steps = append(q.Steps, f.step(step))
			}
		default:
			f.unknown(key, "a pipeline", "name", "steps")
		}
	})
	if q.PipelineId == "" {
		f.wrong(doc.Content[0], "name: is missing; name the pipeline, its runs carry the name in the label `pipeline`")
	}
	if len(f.problems) > 0 {
		return nil, usage("%s", strings.Join(f.problems, "\n"))
	}
	return q, nil
}

// step reads one step.
func (f *pipelineFile) step(node *yaml.Node) *runv1.PipelineStep {
	step := &runv1.PipelineStep{Options: &runv1.RunOptions{}}
	f.each(node, "a step", func(key, value *yaml.Node) {
		if kind, ok := stepKinds[key.Value]; ok {
			if step.Kind != "" {
				f.wrong(key, "%s: the step is a %s already; make two steps of it", key.Value, step.Kind)
			}
			step.Kind = kind.kind
			request := kind.request()
			f.message(value, request.ProtoReflect(), key.Value)
			f.complete(request.ProtoReflect(), kind.names)
			text, err := protojson.Marshal(request)
			if err != nil {
				f.wrong(key, "%s: %v", key.Value, err)
			}
			step.RequestJson = string(text)
			return
		}
		f.setting(step, key, value)
	})
	if step.Id == "" {
		f.wrong(node, "id: is missing; name the step")
	}
	if step.Kind == "" {
		f.wrong(node, "step %s does nothing; give it one of space, embeddings, set, detector or evaluation", step.Id)
	}
	return step
}

// setting reads what a step has beside its request.
func (f *pipelineFile) setting(step *runv1.PipelineStep, key, value *yaml.Node) {
	switch key.Value {
	case "id":
		step.Id = f.text(value)
	case "after":
		if err := decoded(value, &step.After); err != nil {
			f.wrong(value, "after: want a list of step ids, such as [space, set]")
		}
	case "priority":
		if step.Options.Priority = priorityOf(f.text(value)); step.Options.Priority == 0 {
			f.wrong(value, "priority: %q; want low, normal or high", value.Value)
		}
	case "labels":
		if err := decoded(value, &step.Options.Labels); err != nil {
			f.wrong(value, "labels: want names with values, such as {team: vision}")
		}
	case "time_limit":
		limit, err := parseDuration(f.text(value))
		if err != nil {
			f.wrong(value, "time_limit: %q; want a duration such as 90m", value.Value)
		}
		step.Options.TimeLimit = durationpb.New(limit)
	default:
		f.unknown(key, "a step", "id", "after", "priority", "labels", "time_limit", "and one of space, embeddings, set, detector, evaluation")
	}
}

// message reads the fields of a request into m.
func (f *pipelineFile) message(node *yaml.Node, m protoreflect.Message, path string) {
	fields := m.Descriptor().Fields()
	f.each(node, path, func(key, value *yaml.Node) {
		field := fields.ByTextName(key.Value)
		at := path + "." + key.Value
		switch {
		case field == nil || strings.Count(path, ".") == 0 && (key.Value == "request_id" || key.Value == "options"):
			f.unknown(key, path, namesOf(fields)...)
		case field.Message() != nil && !field.IsList() && !field.IsMap():
			f.message(value, m.Mutable(field).Message(), at)
		case field.Message() != nil && field.IsList():
			if value = target(value); value.Kind != yaml.SequenceNode {
				f.wrong(value, "%s: want a list, one item per `- `", at)
				return
			}
			for _, item := range value.Content {
				f.message(item, m.Mutable(field).List().AppendMutable().Message(), at)
			}
		default:
			f.value(value, m, field, at)
		}
	})
}

// value reads a scalar, or a list or map of them.
func (f *pipelineFile) value(node *yaml.Node, m protoreflect.Message, field protoreflect.FieldDescriptor, at string) {
	var value any
	var err error
	if node = target(node); field.Kind() == protoreflect.StringKind && node.Kind == yaml.ScalarNode && node.Tag != "!!null" {
		value = node.Value // 10 is a name, too
	} else {
		err = node.Decode(&value)
	}
	text, jerr := json.Marshal(map[string]any{string(field.Name()): value})
	fresh := m.New()
	if err == nil && jerr == nil {
		err = protojson.Unmarshal(text, fresh.Interface())
	}
	if err != nil || jerr != nil {
		f.wrong(node, "%s: %s does not fit; want %s", at, strings.TrimSpace(node.Value), wanted(field))
		return
	}
	if fresh.Has(field) {
		m.Set(field, fresh.Get(field))
	}
}

// wanted is what a field takes, for people.
func wanted(field protoreflect.FieldDescriptor) string {
	what := map[protoreflect.Kind]string{
		protoreflect.StringKind: "text", protoreflect.BoolKind: "true or false", protoreflect.EnumKind: "one of ", protoreflect.DoubleKind: "a number",
		protoreflect.Uint64Kind: "a whole number, 0 or more",
	}[field.Kind()]
	if field.Kind() == protoreflect.EnumKind {
		for i := range field.Enum().Values().Len() {
			what += string(field.Enum().Values().Get(i).Name()) + " "
		}
	}
	if what == "" {
		what = "a whole number"
	}
	if field.IsMap() {
		return "names with values"
	}
	if field.IsList() {
		return "a list"
	}
	return strings.TrimSpace(what)
}

// complete makes resource names of ids, and absolute paths of datasets.
func (f *pipelineFile) complete(m protoreflect.Message, names map[string]ood.Collection) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := string(field.Name())
		switch {
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				f.complete(value.List().Get(i).Message(), nil)
			}
		case field.Kind() != protoreflect.StringKind || field.IsList() || field.IsMap():
		case names[name] != "" && ood.ValidID(value.String()):
			m.Set(field, protoreflect.ValueOfString(names[name].Name(value.String())))
		case name == "dataset" || name == "test_dataset" || name == "path":
			path := value.String()
			if !strings.HasPrefix(path, "~") && !filepath.IsAbs(path) {
				path = filepath.Join(f.dir, path)
			}
			m.Set(field, protoreflect.ValueOfString(kong.ExpandPath(path)))
		}
		return true
	})
}

// each calls do for every entry of a mapping; a key that is there twice is wrong.
func (f *pipelineFile) each(node *yaml.Node, what string, do func(key, value *yaml.Node)) {
	if node = target(node); node.Kind != yaml.MappingNode {
		f.wrong(node, "%s: want fields, one `name: value` per line", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if seen[key.Value] {
			f.wrong(key, "%s: is there twice", key.Value)
		}
		seen[key.Value] = true
		do(key, node.Content[i+1])
	}
}

// text is the text of a scalar.
func (f *pipelineFile) text(node *yaml.Node) string {
	if node = target(node); node.Kind != yaml.ScalarNode {
		f.wrong(node, "want one word")
		return ""
	}
	return node.Value
}

// unknown notes a key that means nothing.
func (f *pipelineFile) unknown(key *yaml.Node, what string, known ...string) {
	f.wrong(key, "%s: %s has no such field; it has %s", key.Value, what, strings.Join(known, ", "))
}

func (f *pipelineFile) wrong(node *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf("%s:%d: %s", f.name, node.Line, fmt.Sprintf(format, args...)))
}

// target is the node that an alias stands for.
func target(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}
