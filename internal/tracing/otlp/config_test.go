package otlp_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/tracing/otlp"
)

func TestSettingsThatTheExporterCannotWorkWithAreRefusedTogether(t *testing.T) {
	t.Parallel()
	valid := otlp.Config{
		Endpoint: "https://collector.example/base/", Headers: "authorization=Bearer%20x", Protocol: "http/protobuf",
		Sampler: "parentbased_traceidratio", SamplerArg: "0.25", ResourceAttributes: "a=b,,c=d%2Ce,",
	}
	for _, test := range []struct {
		name   string
		mutate func(*otlp.Config)
		wrong  []string
	}{
		{"valid", func(*otlp.Config) {}, nil},
		{"another exporter", func(c *otlp.Config) { c.Exporter = "zipkin" }, []string{"OTEL_TRACES_EXPORTER"}},
		{"no URL", func(c *otlp.Config) { c.Endpoint = "collector:4318" }, []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}},
		{"another scheme", func(c *otlp.Config) { c.TracesEndpoint = "grpc://collector:4317" }, []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}},
		{"a password in it", func(c *otlp.Config) { c.Endpoint = "https://user:secret@collector.example" }, []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}},
		{"a user in it", func(c *otlp.Config) { c.TracesEndpoint = "https://secret@collector.example/x" }, []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}},
		{"a key behind it", func(c *otlp.Config) { c.TracesEndpoint = "https://collector.example/x?key=secret" }, []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}},
		{"two with passwords", func(c *otlp.Config) {
			c.Endpoint, c.TracesEndpoint = "https://user:secret@collector.example", "https://user:secret@collector.example"
		}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}},
		{"a password, and switched off", func(c *otlp.Config) { c.Endpoint, c.SDKDisabled = "https://user:secret@collector.example", true }, nil},
		{"grpc", func(c *otlp.Config) { c.Protocol = "grpc" }, []string{"OTEL_EXPORTER_OTLP_PROTOCOL"}},
		{"grpc for other signals", func(c *otlp.Config) { c.Protocol, c.TracesProtocol = "grpc", "http/protobuf" }, nil},
		{"JSON", func(c *otlp.Config) { c.TracesProtocol = "http/json" }, []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"}},
		{"a sampler of others", func(c *otlp.Config) { c.Sampler = "jaeger_remote" }, []string{"OTEL_TRACES_SAMPLER"}},
		{"a share over all", func(c *otlp.Config) { c.SamplerArg = "25" }, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		{"a share that is none", func(c *otlp.Config) { c.SamplerArg = "NaN" }, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		{"a share that nobody asks for", func(c *otlp.Config) { c.Sampler, c.SamplerArg = "always_on", "?" }, nil},
		{"headers without keys", func(c *otlp.Config) { c.Headers = "secret" }, []string{"OTEL_EXPORTER_OTLP_HEADERS"}},
		{"a header as HTTP writes it", func(c *otlp.Config) { c.Headers = "authorization: Bearer secret==" }, []string{"OTEL_EXPORTER_OTLP_HEADERS"}},
		{"a value of two lines", func(c *otlp.Config) { c.TracesHeaders = "key=secret%0a" }, []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS"}},
		{"an attribute that is no text", func(c *otlp.Config) { c.ResourceAttributes = "a=%ff" }, []string{"OTEL_RESOURCE_ATTRIBUTES"}},
		{"all", func(c *otlp.Config) {
			*c = otlp.Config{Endpoint: "x", Protocol: "grpc", TracesHeaders: "=secret", ResourceAttributes: "a=%", Sampler: "x"}
		}, []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
			"OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER",
		}},
		{"all, and switched off", func(c *otlp.Config) {
			*c = otlp.Config{Endpoint: "x", Protocol: "grpc", Headers: "secret", Sampler: "x", SDKDisabled: true}
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := valid
			test.mutate(&cfg)
			var wrong []string
			cfg.Validate(func(setting, problem string) {
				wrong = append(wrong, setting)
				require.NotContains(t, problem, "secret")
			})
			slices.Sort(wrong)
			require.Equal(t, test.wrong, wrong)
		})
	}
}

// What refuses an endpoint tells of every mistake at once, and of no password.
func TestAPasswordOfACollectorIsRefusedAndNotTold(t *testing.T) {
	t.Parallel()
	var cfg struct {
		Spans otlp.Config `embed:""`
	}
	err := settings.Parse("edge", "", &cfg, []string{"--otel-traces-sampler=none"}, func(name string) (string, bool) {
		return "https://user:hunter2@collector.example:4318", name == "OTEL_EXPORTER_OTLP_ENDPOINT"
	})
	require.ErrorContains(t, err, `(OTEL_EXPORTER_OTLP_ENDPOINT): got "https://***@collector.example:4318", expected no user and no password`)
	require.ErrorContains(t, err, "OTEL_EXPORTER_OTLP_HEADERS")
	require.ErrorContains(t, err, "OTEL_TRACES_SAMPLER")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestTheSettingsHaveTheNamesOfTheSpecification(t *testing.T) {
	t.Parallel()
	environment := map[string]string{
		"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:4318/x", "OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "c=d",
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": "s",
		"OTEL_RESOURCE_ATTRIBUTES": "e=f", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5",
	}
	var cfg struct {
		Spans otlp.Config `embed:""`
	}
	require.NoError(t, settings.Parse("edge", "", &cfg, nil, func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}))
	require.Equal(t, otlp.Config{
		SDKDisabled: true, Exporter: "otlp", Endpoint: "http://a:4318", TracesEndpoint: "http://b:4318/x", Headers: "a=b", TracesHeaders: "c=d",
		Protocol: "http/protobuf", TracesProtocol: "http/protobuf", ServiceName: "s", ResourceAttributes: "e=f",
		Sampler: "traceidratio", SamplerArg: "0.5",
	}, cfg.Spans)
}
