package auth

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	embedderv1 "github.com/dreamood/dreamood/proto/dreamood/embedder/v1"
	generatorv1 "github.com/dreamood/dreamood/proto/dreamood/generator/v1"
	runv1 "github.com/dreamood/dreamood/proto/dreamood/run/v1"
	samplerv1 "github.com/dreamood/dreamood/proto/dreamood/sampler/v1"
	storev1 "github.com/dreamood/dreamood/proto/dreamood/store/v1"
	trainerv1 "github.com/dreamood/dreamood/proto/dreamood/trainer/v1"
)

// forAdmins are the methods that are meant to be for admins alone.
var forAdmins = []string{
	storev1.StoreService_CollectGarbage_FullMethodName,
}

func allowed(method string) string {
	var roles []string
	for _, role := range Roles {
		if Allow(Identity{"x", role}, method) == nil {
			roles = append(roles, string(role))
		}
	}
	return strings.Join(roles, " ")
}

// TestEveryMethodHasAVerb: one without would be for admins alone.
func TestEveryMethodHasAVerb(t *testing.T) {
	seen := 0
	for _, file := range []protoreflect.FileDescriptor{
		embedderv1.File_dreamood_embedder_v1_embedder_proto, samplerv1.File_dreamood_sampler_v1_sampler_proto,
		generatorv1.File_dreamood_generator_v1_generator_proto, trainerv1.File_dreamood_trainer_v1_trainer_proto, runv1.File_dreamood_run_v1_run_proto,
		storev1.File_dreamood_store_v1_store_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				if got := allowed(method); got != "admin client viewer service" && got != "admin client service" && !slices.Contains(forAdmins, method) {
					t.Errorf("%s is for %s", method, got)
				}
				seen++
			}
		}
	}
	if seen < 30 {
		t.Errorf("%d methods", seen)
	}
}

func TestRolesAndMethods(t *testing.T) {
	const all, work = "admin client viewer service", "admin client service"
	for method, want := range map[string]string{
		"/dreamood.run.v1.RunService/GetRun":                        all,
		"/dreamood.run.v1.RunService/WatchRun":                      all,
		"/dreamood.run.v1.RunService/CancelRun":                     work,
		"/dreamood.run.v1.RunService/DeleteRun":                     work,
		"/dreamood.embedder.v1.EmbedderService/TrainSpace":          work,
		"/dreamood.trainer.v1.TrainerService/StreamScores":          work,
		"/dreamood.trainer.v1.TrainerService/DownloadDetector":      all,
		"/google.longrunning.Operations/WaitOperation":              all,
		"/google.longrunning.Operations/CancelOperation":            work,
		"/grpc.health.v1.Health/Check":                              all,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": all,
		"/dreamood.generator.v1.GeneratorService/DeleteSet":         work,
		"/google.longrunning.Operations/DeleteOperation":            work,
		"/dreamood.store.v1.StoreService/CollectGarbage":            "admin",
		"/dreamood.run.v1.RunService/Get":                           "admin",
		"/dreamood.run.v1.RunService/Getaway":                       "admin",
		"":                                                          "admin",
		"/dreamood.run.v1.RunService/":                              "admin",
	} {
		if got := allowed(method); got != want {
			t.Errorf("%s is for %s, want %s", method, got, want)
		}
	}
	if !Open("/grpc.health.v1.Health/Watch") || Open("/grpc.health.v1.HealthX/Watch") || Open("/dreamood.run.v1.RunService/GetRun") {
		t.Error("health alone is open")
	}
}
