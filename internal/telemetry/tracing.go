package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/dreamood/dreamood/internal/tracefile"
)

// shutdownWait bounds how long the end of a process waits for its last spans to be taken.
const shutdownWait = 5 * time.Second

// TracingConfig says where spans go.
type TracingConfig struct {
	Service string      // service.name, unless OTEL_SERVICE_NAME names another
	Version string      // service.version
	File    string      // to append spans to; "" = none
	Log     *zap.Logger // is told what cannot be exported
}

// Tracing is the tracing of a process. The zero value is none.
type Tracing struct{ provider *sdk.TracerProvider }

// StartTracing sends spans to the file, and by OTLP over gRPC to where the standard variables OTEL_EXPORTER_OTLP_* say.
// Without a file and without variables nothing is traced. Other OTEL_* variables of the SDK hold: OTEL_TRACES_SAMPLER,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*, OTEL_SDK_DISABLED.
func StartTracing(ctx context.Context, cfg TracingConfig) (*Tracing, error) {
	remote, err := wanted()
	if err != nil || cfg.File == "" && !remote {
		return &Tracing{}, err
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", cfg.Service), attribute.String("service.namespace", "dreamood"),
		attribute.String("service.version", cfg.Version), attribute.String("service.instance.id", rand.Text())), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	options := []sdk.TracerProviderOption{sdk.WithResource(about)}
	if cfg.File != "" {
		file, err := tracefile.Create(cfg.File)
		if err != nil {
			return nil, err
		}
		options = append(options, sdk.WithBatcher(file, sdk.WithBatchTimeout(time.Second)))
	}
	if remote {
		exporter, err := otlptracegrpc.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("tracing by OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
		}
		options = append(options, sdk.WithBatcher(exporter))
	}
	if cfg.Log != nil { // the SDK knows one handler for all
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { cfg.Log.Warn("spans are not exported", zap.Error(err)) }))
	}
	return &Tracing{sdk.NewTracerProvider(options...)}, nil
}

// wanted says whether the environment asks for an export over gRPC.
func wanted() (bool, error) {
	endpoint := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") + os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	switch {
	case os.Getenv("OTEL_SDK_DISABLED") == "true" || exporter == "none" || exporter == "" && endpoint == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("OTEL_TRACES_EXPORTER=%s: want otlp, none, or nothing", exporter)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := os.Getenv(name); protocol != "" && protocol != "grpc" {
			return false, fmt.Errorf("%s=%s: spans are sent over grpc only; leave it out, and name the collector's gRPC port (4317)", name, protocol)
		}
	}
	return true, nil
}

// Provider makes tracers; nil when nothing is traced.
func (t *Tracing) Provider() trace.TracerProvider {
	if t == nil || t.provider == nil {
		return nil // an interface, not a pointer in one
	}
	return t.provider
}

// Close exports what is left, within some seconds.
func (t *Tracing) Close() error {
	if t == nil || t.provider == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownWait)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return errors.Join(errors.New("the last spans are lost"), err)
	}
	return nil
}
