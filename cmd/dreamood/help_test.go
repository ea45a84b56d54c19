package main

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

func parser(t *testing.T) *kong.Kong {
	t.Helper()
	p, err := newParser(&CLI{}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var word = regexp.MustCompile(`'[^']*'|(?:[^\s"]|"[^"]*")+`)

// TestHelpOfEveryCommand prints it, and reads every example in it back: none may name a flag that is not there.
func TestHelpOfEveryCommand(t *testing.T) {
	examples := 0
	for _, command := range parser(t).Model.Leaves(false) {
		var out, errs bytes.Buffer
		args := append(strings.Fields(command.Path()), "--help")
		if code := run(context.Background(), args, &out, &errs, nil); code != 0 || errs.Len() > 0 {
			t.Fatalf("%v: exit code %d, %s", args, code, errs.String())
		}
		if !strings.Contains(out.String(), command.Help) || !strings.Contains(out.String(), "Every command:") {
			t.Errorf("%v prints\n%s", args, out.String())
		}
		for _, node := range []*kong.Node{command, command.Parent} {
			detail := strings.ReplaceAll(node.Detail, "\\\n", " ")
			for _, line := range strings.Split(detail, "\n") {
				line, ok := strings.CutPrefix(line, "    dreamood ")
				if !ok {
					continue
				}
				examples++
				line, _, _ = strings.Cut(line, "|")
				words := word.FindAllString(line, -1)
				for i := range words {
					words[i] = strings.Trim(strings.ReplaceAll(words[i], `"`, ""), "'")
				}
				if _, err := parser(t).Parse(words); err != nil {
					t.Errorf("the example %q does not parse: %v", line, err)
				}
			}
		}
	}
	if examples < 15 {
		t.Errorf("only %d examples in all of the help", examples)
	}
}

// TestFieldTagsNameRequestFields holds the `field` tags, which map violations to flags, against the wire.
func TestFieldTagsNameRequestFields(t *testing.T) {
	requests := map[string]proto.Message{
		"space train": &embedderv1.TrainSpaceRequest{}, "space get": &embedderv1.GetSpaceRequest{}, "space export": &embedderv1.GetSpaceRequest{},
		"space delete": &embedderv1.DeleteSpaceRequest{}, "sets delete": &generatorv1.DeleteSetRequest{}, "detector delete": &trainerv1.DeleteDetectorRequest{}, "space embed": &embedderv1.EmbedImagesRequest{},
		"sample": &samplerv1.SampleOutliersRequest{}, "imagine": &generatorv1.RenderSetRequest{}, "render": &generatorv1.RenderOutliersRequest{},
		"embeddings sample": &samplerv1.SampleSetRequest{}, "embeddings show": &samplerv1.GetEmbeddingSetRequest{},
		"embeddings export": &samplerv1.StreamEmbeddingSetRequest{}, "embeddings delete": &samplerv1.DeleteEmbeddingSetRequest{},
		"sets get": &generatorv1.GetSetRequest{}, "sets report": &generatorv1.GetSetRequest{}, "sets export": &generatorv1.StreamSetRequest{},
		"train": &trainerv1.TrainDetectorRequest{}, "score": &trainerv1.StreamScoresRequest{},
		"detector get": &trainerv1.GetDetectorRequest{}, "detector download": &trainerv1.DownloadDetectorRequest{},
		"detector evaluate": &trainerv1.EvaluateDetectorRequest{}, "detector versions": &trainerv1.ListDetectorVersionsRequest{},
		"detector promote": &trainerv1.PromoteDetectorRequest{}, "detector check": &trainerv1.DownloadMeasurementsRequest{}, "runs list": &runv1.ListRunsRequest{},
		"runs show (get)": &runv1.GetRunRequest{}, "runs watch": &runv1.WatchRunRequest{}, "runs cancel": &runv1.CancelRunRequest{},
		"runs pause": &runv1.PauseRunRequest{}, "runs resume": &runv1.ResumeRunRequest{}, "runs retry": &runv1.RetryRunRequest{},
		"pipeline run": &runv1.SubmitPipelineRequest{}, "runs delete": &runv1.DeleteRunRequest{}, "runs queue": &runv1.DescribeQueueRequest{}, "runs dead list": &runv1.ListDeadLettersRequest{},
		"runs dead show": &runv1.GetDeadLetterRequest{}, "runs dead redrive": &runv1.RedriveDeadLetterRequest{},
	}
	requests["gc"] = &storev1.CollectGarbageRequest{}
	for _, command := range parser(t).Model.Leaves(false) {
		tagged := map[string]bool{}
		for field := range flagsByField(command) {
			request := requests[command.Path()]
			if request == nil {
				t.Fatalf("%s: which request has the field %s?", command.Path(), field)
			}
			if !hasField(request.ProtoReflect().Descriptor(), field) {
				t.Errorf("%s: %s has no field %s", command.Path(), request.ProtoReflect().Descriptor().Name(), field)
			}
			tagged[field] = true
		}
		if request := requests[command.Path()]; request != nil && (command.Name == "train" || command.Name == "imagine") {
			for _, field := range leavesOf(request.ProtoReflect().Descriptor(), "") {
				named := tagged[field]
				for parent := field; !named && strings.Contains(parent, "."); named = tagged[parent] {
					parent = parent[:strings.LastIndex(parent, ".")]
				}
				if !named {
					t.Errorf("%s: no flag sets %s", command.Path(), field)
				}
			}
		}
	}
}

func hasField(d protoreflect.MessageDescriptor, path string) bool {
	name, rest, more := strings.Cut(path, ".")
	field := d.Fields().ByName(protoreflect.Name(name))
	return field != nil && (!more || field.Message() != nil && hasField(field.Message(), rest))
}

func leavesOf(d protoreflect.MessageDescriptor, prefix string) (paths []string) {
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		known := field.Message() != nil && field.Message().ParentFile().Package() == "google.protobuf" // a time or duration
		if field.Message() != nil && !field.IsList() && !field.IsMap() && !known {
			paths = append(paths, leavesOf(field.Message(), prefix+string(field.Name())+".")...)
			continue
		}
		paths = append(paths, prefix+string(field.Name()))
	}
	return paths
}
