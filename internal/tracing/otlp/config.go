package otlp

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/internal/tracing"
)

// Config says whether spans are exported, where to and of which events, in the words of
// the OpenTelemetry specification. What else that has for an exporter by HTTP
// (OTEL_EXPORTER_OTLP_CERTIFICATE, _TIMEOUT, _COMPRESSION and so on) the library reads.
type Config struct {
	SDKDisabled        bool            `name:"otel-sdk-disabled" group:"Tracing" help:"true: no spans are exported, whatever else is set."`
	Exporter           string          `name:"otel-traces-exporter" group:"Tracing" help:"otlp or none: no spans are exported. Empty: they are if there is an endpoint."`
	Endpoint           settings.URL    `name:"otel-exporter-otlp-endpoint" group:"Tracing" help:"Collector of OpenTelemetry to which spans are exported, under /v1/traces, such as http://collector:4318; without one, none are."`
	TracesEndpoint     settings.URL    `name:"otel-exporter-otlp-traces-endpoint" group:"Tracing" help:"The whole URL to which spans are exported, instead of OTEL_EXPORTER_OTLP_ENDPOINT."`
	Headers            settings.Secret `name:"otel-exporter-otlp-headers" group:"Tracing" help:"Headers for the collector, as in key1=value1,key2=value2 with values as in URLs."`
	TracesHeaders      settings.Secret `name:"otel-exporter-otlp-traces-headers" group:"Tracing" help:"The same instead of OTEL_EXPORTER_OTLP_HEADERS."`
	Protocol           string          `name:"otel-exporter-otlp-protocol" group:"Tracing" help:"http/protobuf, which is the only one."`
	TracesProtocol     string          `name:"otel-exporter-otlp-traces-protocol" group:"Tracing" help:"The same instead of OTEL_EXPORTER_OTLP_PROTOCOL."`
	ServiceName        string          `name:"otel-service-name" group:"Tracing" help:"Name of this program in traces; its own when empty."`
	ResourceAttributes string          `name:"otel-resource-attributes" group:"Tracing" help:"What else spans say of this program, as in deployment.environment.name=production,k8s.namespace.name=gateway."`
	Sampler            string          `name:"otel-traces-sampler" group:"Tracing" help:"Which events are traced: always_on, always_off, traceidratio, or one of these with parentbased_ before it, which asks for nothing but what a publisher says of its event. Empty: parentbased_traceidratio with one in TRACE_SAMPLE. Events that fail, are repeated or wait for over a second are traced in any case, but not with always_off."`
	SamplerArg         string          `name:"otel-traces-sampler-arg" group:"Tracing" help:"Which share of events traceidratio chooses, 0 to 1; 1 when empty."`
}

// protocol is the only one.
const protocol = "http/protobuf"

// defaultEndpoint is the specification's, where only the exporter is named.
const defaultEndpoint = "http://localhost:4318"

// Enabled reports whether spans are exported.
func (c Config) Enabled() bool {
	return !c.SDKDisabled && c.Exporter != "none" && (c.Exporter != "" || c.Endpoint != "" || c.TracesEndpoint != "")
}

// Validate reports what the exporter could not work with. What is set and not used may
// be another program's.
func (c Config) Validate(report func(setting, problem string)) {
	if !c.Enabled() {
		return
	}
	if c.Exporter != "" && c.Exporter != "otlp" {
		report("OTEL_TRACES_EXPORTER", "expected otlp or none")
	}
	for _, e := range []struct {
		setting string
		url     settings.URL
	}{{"OTEL_EXPORTER_OTLP_ENDPOINT", c.Endpoint}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.TracesEndpoint}} {
		if problem := wrongEndpoint(e.url); e.url != "" && problem != "" {
			report(e.setting, problem)
		}
	}
	for _, p := range []struct{ setting, value string }{
		{"OTEL_EXPORTER_OTLP_PROTOCOL", c.Protocol}, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", c.TracesProtocol},
	} {
		if p.value != "" && p.value != protocol && (p.setting != "OTEL_EXPORTER_OTLP_PROTOCOL" || c.TracesProtocol == "") {
			report(p.setting, "expected "+protocol+", which collectors take at port 4318: there is no exporter by gRPC (4317) here, nor one of JSON")
		}
	}
	for _, list := range []struct {
		setting, value string
		takes          func(pair) bool
	}{
		{"OTEL_EXPORTER_OTLP_HEADERS", string(c.Headers), pair.isHeader},
		{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", string(c.TracesHeaders), pair.isHeader},
		{"OTEL_RESOURCE_ATTRIBUTES", c.ResourceAttributes, pair.isText},
	} {
		found, err := pairs(list.value)
		if err == nil && !all(found, list.takes) {
			err = errors.New("a key or a value has characters that cannot be sent")
		}
		if err != nil {
			report(list.setting, "expected key1=value1,key2=value2 with values as in URLs: "+err.Error())
		}
	}
	c.validateSampler(report)
}

// wrongEndpoint says what is wrong with the URL of a collector; "" if nothing is. Of a
// URL the library uses scheme, host and path, and drops the rest without a word.
func wrongEndpoint(text settings.URL) string {
	const instead = "give the collector what it asks for in OTEL_EXPORTER_OTLP_HEADERS, such as authorization=Basic%20…"
	u, err := url.Parse(string(text))
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return "expected the URL of a collector, such as http://collector:4318"
	case u.User != nil:
		return "expected no user and no password, which would not be sent: " + instead
	case u.RawQuery != "" || u.ForceQuery:
		return "expected nothing behind the path, which would not be sent: " + instead
	}
	return ""
}

func all(list []pair, takes func(pair) bool) bool {
	return !slices.ContainsFunc(list, func(p pair) bool { return !takes(p) })
}

func (c Config) validateSampler(report func(setting, problem string)) {
	if c.Sampler != "" && !slices.Contains(tracing.Samplers, c.Sampler) {
		report("OTEL_TRACES_SAMPLER", "expected one of "+strings.Join(tracing.Samplers, ", "))
		return
	}
	if _, err := c.ratio(); err != nil && strings.HasSuffix(c.Sampler, "traceidratio") {
		report("OTEL_TRACES_SAMPLER_ARG", "expected a share of all events, from 0 to 1")
	}
}

// sampler is the one in force where one in every events is traced without another word.
func (c Config) sampler(every int) (*tracing.Sampler, error) {
	if c.Sampler == "" {
		share := 0.0
		if every > 0 {
			share = 1 / float64(every)
		}
		return tracing.NewSampler("parentbased_traceidratio", share)
	}
	ratio, err := c.ratio()
	if err != nil && strings.HasSuffix(c.Sampler, "traceidratio") {
		return nil, err
	}
	return tracing.NewSampler(c.Sampler, ratio)
}

func (c Config) ratio() (float64, error) {
	if c.SamplerArg == "" {
		return 1, nil
	}
	ratio, err := strconv.ParseFloat(c.SamplerArg, 64)
	if err == nil && !(ratio >= 0 && ratio <= 1) {
		err = fmt.Errorf("%v is no share", ratio)
	}
	return ratio, err
}

// url is where spans go.
func (c Config) url() (string, error) {
	if c.TracesEndpoint != "" {
		return string(c.TracesEndpoint), nil
	}
	endpoint := string(c.Endpoint)
	if endpoint == "" {
		endpoint = defaultEndpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	return u.JoinPath("v1/traces").String(), nil
}

// address is the same without secrets, for people.
func (c Config) address() string {
	text, err := c.url()
	if err != nil {
		return ""
	}
	return settings.URL(text).String()
}

// headers are those of the collector.
func (c Config) headers() (map[string]string, error) {
	text := string(c.TracesHeaders)
	if text == "" {
		text = string(c.Headers)
	}
	list, err := pairs(text)
	if err != nil {
		return nil, err
	}
	headers := make(map[string]string, len(list))
	for _, p := range list {
		headers[p.key] = p.value
	}
	return headers, nil
}

type pair struct{ key, value string }

// isHeader reports whether HTTP takes it. Where it does not, the libraries repeat the key
// in an error, and who has written "authorization: Bearer secret=" has a secret in it.
func (p pair) isHeader() bool {
	name := func(r rune) bool {
		return r > ' ' && r < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	}
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return !strings.ContainsFunc(p.key, func(r rune) bool { return !name(r) }) && !strings.ContainsFunc(p.value, control)
}

// isText reports whether OTLP takes it, which refuses a whole batch for one wrong byte.
func (p pair) isText() bool { return utf8.ValidString(p.key) && utf8.ValidString(p.value) }

// pairs reads key1=value1,key2=value2. An error tells no value: it may be a secret.
func pairs(text string) (list []pair, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for n, part := range strings.Split(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			return nil, fmt.Errorf("the part number %d has no key or no =", n+1)
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("the value of part number %d has a %% that begins no escape", n+1)
		}
		list = append(list, pair{key, value})
	}
	return list, nil
}
