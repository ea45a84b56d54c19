package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/dreamood/dreamood/internal/catalog"
	"github.com/dreamood/dreamood/internal/fault"
	"github.com/dreamood/dreamood/internal/ood"
	"github.com/dreamood/dreamood/internal/runs"
	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
	"github.com/dreamood/dreamood/services/embedder"
	"github.com/dreamood/dreamood/services/generator"
	"github.com/dreamood/dreamood/services/sampler"
	"github.com/dreamood/dreamood/services/trainer"
)

// planner is a role that plans runs itself, so that a pipeline's request is refused where it is submitted.
type planner interface {
	Planners() map[string]runs.Planner // by kind
}

// pipelines is what every process knows of the steps of pipelines.
func (a *App) pipelines() runs.Pipelines {
	planners := map[string]runs.Planner{}
	for _, r := range a.roles {
		if p, ok := r.(planner); ok {
			maps.Copy(planners, p.Planners())
		}
	}
	kinds := map[string]runs.StepKind{
		embedder.KindTrainSpace:   makes(ood.Spaces, "space_id", "steps", (*embedderv1.TrainSpaceRequest).GetSpaceId, embedder.CheckTrainSpace),
		sampler.KindSampleSet:     makes(ood.Embeddings, "set_id", "embeddings", (*samplerv1.SampleSetRequest).GetSetId, sampler.CheckSampleSet),
		generator.KindRenderSet:   makes(ood.Sets, "set_id", "pictures", (*generatorv1.RenderSetRequest).GetSetId, checkRenderSet),
		trainer.KindTrainDetector: makes(ood.Detectors, "detector_id", "steps", (*trainerv1.TrainDetectorRequest).GetDetectorId, trainer.CheckTrainDetector),
		trainer.KindEvaluateDetector: {
			Unit: "sets", Request: func() proto.Message { return &trainerv1.EvaluateDetectorRequest{} },
			Target: func(m proto.Message) (string, error) {
				name, _, _ := strings.Cut(m.(*trainerv1.EvaluateDetectorRequest).GetName(), "@") // a version of it
				_, err := ood.Detectors.ID(name)
				return name, err
			},
			Check: func(m proto.Message) error {
				return trainer.CheckEvaluateDetector(m.(*trainerv1.EvaluateDetectorRequest))
			},
		},
	}
	for name, kind := range kinds {
		kind.Plan = planners[name]
		kinds[name] = kind
	}
	return runs.Pipelines{Kinds: kinds, Made: a.made, Collections: []string{string(ood.Spaces), string(ood.Embeddings), string(ood.Sets), string(ood.Detectors)}}
}

// checkRenderSet looks at the settings of the sampler, too, which the generator hands on.
func checkRenderSet(q *generatorv1.RenderSetRequest) error {
	return fault.Join(generator.CheckRenderSet(q), sampler.CheckSampling(q.Sampling))
}

// makes is a kind that makes a resource, whose id is a field of the request.
func makes[M any, P interface {
	*M
	proto.Message
}](c ood.Collection, field, unit string, id func(P) string, check func(P) error) runs.StepKind {
	return runs.StepKind{
		Makes: true, Unit: unit, Request: func() proto.Message { return P(new(M)) },
		Target: func(m proto.Message) (string, error) {
			id := id(m.(P))
			if !ood.ValidID(id) {
				return "", fmt.Errorf("%s %q: want 1 to 63 of a-z 0-9 - _, beginning with a letter or digit", field, id)
			}
			return c.Name(id), nil
		},
		Check: func(m proto.Message) error { return check(m.(P)) },
	}
}

// made looks for a resource and who made it.
func (a *App) made(ctx context.Context, resource string) (by runs.Maker, there bool, err error) {
	kind, id, _ := strings.Cut(resource, "/")
	doc, err := a.catalog.Get(ctx, kind, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return by, false, nil
	}
	if err != nil {
		return by, false, err
	}
	err = json.Unmarshal(doc.JSON, &by)
	return by, true, err
}
