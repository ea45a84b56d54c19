package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// composed is what is looked at of deploy/docker-compose.yml.
type composed struct {
	Services map[string]struct {
		Command     []string
		Environment map[string]string
		Volumes     []string
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		Healthcheck struct{ Test []string }
		Build       struct{ Context, Dockerfile string }
	}
	Volumes map[string]any
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy", file))
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// environment are the variables that serve knows, in the structs of its flags.
func environment(of reflect.Type) []string {
	var list []string
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Type.Kind() == reflect.Struct {
			list = append(list, environment(f.Type)...)
		}
		if name := f.Tag.Get("env"); name != "" {
			list = append(list, name)
		}
	}
	return list
}

// TestComposeFitsTheProgram: every variable is one that serve knows and every target a role; peers, dependencies, volumes
// and mounted files are there; what is waited for has a health check.
func TestComposeFitsTheProgram(t *testing.T) {
	var c composed
	readYAML(t, "docker-compose.yml", &c)
	known := append(environment(reflect.TypeFor[CLI]()), environment(reflect.TypeFor[ServeCmd]())...)
	if len(known) < 20 {
		t.Fatalf("serve knows only %v", known)
	}
	roles := 0
	for name, s := range c.Services {
		for key, value := range s.Environment {
			if strings.HasPrefix(key, "DREAMOOD_") && !slices.Contains(known, key) {
				t.Errorf("%s: serve knows no %s", name, key)
			}
			host, _, peer := strings.Cut(value, ":7460")
			if _, there := c.Services[host]; peer && !there {
				t.Errorf("%s: %s names %q, which is no service", name, key, value)
			}
			if url, ok := strings.CutPrefix(value, "nats://"); ok && c.Services[strings.Split(url, ":")[0]].Healthcheck.Test == nil {
				t.Errorf("%s: %s names %q, which is no service with a health check", name, key, value)
			}
		}
		if target := s.Environment["DREAMOOD_TARGET"]; target != "" {
			roles++
			if target != name || len(s.Command) == 0 || s.Command[0] != "serve" {
				t.Errorf("%s runs %v as %q", name, s.Command, target)
			}
			if _, err := os.Stat(filepath.Join("../../deploy", s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s is built from %v", name, err)
			}
		}
		for other, wait := range s.DependsOn {
			if wait.Condition == "service_healthy" && c.Services[other].Healthcheck.Test == nil {
				t.Errorf("%s waits for the health of %s, which has no check", name, other)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":/")
			switch _, named := c.Volumes[source]; {
			case named, strings.HasPrefix(source, "${"):
			case strings.HasPrefix(source, "./"):
				if _, err := os.Stat(filepath.Join("../../deploy", source)); err != nil {
					t.Errorf("%s mounts %v", name, err)
				}
			default:
				t.Errorf("%s mounts %q, which is neither a volume nor a file beside", name, source)
			}
		}
	}
	if roles != 4 {
		t.Errorf("%d roles, want 4", roles)
	}
	var scraped struct {
		ScrapeConfigs []struct {
			Targets []struct{ Names []string } `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "prometheus/prometheus.yml", &scraped)
	var names []string
	for _, s := range scraped.ScrapeConfigs {
		for _, target := range s.Targets {
			names = append(names, target.Names...)
		}
	}
	for _, name := range names {
		if c.Services[name].Environment["DREAMOOD_METRICS"] == "" {
			t.Errorf("prometheus scrapes %s, which exports nothing", name)
		}
	}
	if len(names) != roles {
		t.Errorf("prometheus scrapes %v", names)
	}
}

// TestKEDAScalesByPrometheus looks at the fields that KEDA requires of a ScaledObject with a Prometheus trigger
// (https://keda.sh/docs/2.18/scalers/prometheus/). What its query gives is tested in internal/app.
func TestKEDAScalesByPrometheus(t *testing.T) {
	var k struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Spec       struct {
			ScaleTargetRef  struct{ Name string } `yaml:"scaleTargetRef"`
			MinReplicaCount *int                  `yaml:"minReplicaCount"`
			MaxReplicaCount int                   `yaml:"maxReplicaCount"`
			Triggers        []struct {
				Type     string
				Metadata map[string]string
			}
		}
	}
	readYAML(t, "keda/generator.yml", &k)
	if k.APIVersion != "keda.sh/v1alpha1" || k.Kind != "ScaledObject" || k.Metadata.Name == "" || k.Spec.ScaleTargetRef.Name == "" ||
		k.Spec.MinReplicaCount == nil || k.Spec.MaxReplicaCount < 1 || len(k.Spec.Triggers) != 1 || k.Spec.Triggers[0].Type != "prometheus" {
		t.Fatalf("%+v", k)
	}
	for _, field := range []string{"serverAddress", "query", "threshold"} { // all are strings
		if k.Spec.Triggers[0].Metadata[field] == "" {
			t.Errorf("the trigger has no %s", field)
		}
	}
}
