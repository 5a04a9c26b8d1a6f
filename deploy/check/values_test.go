package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"sigs.k8s.io/yaml"
)

func TestHelmFindsNothingToComplainAbout(t *testing.T) {
	t.Parallel()
	for name, files := range examples() {
		values, err := Values(files...)
		require.NoError(t, err)
		for _, message := range lint.RunAll(ChartDir(), values, "somewhere").Messages {
			require.LessOrEqual(t, message.Severity, support.UnknownSev, "%s: %s", name, message)
		}
	}
}

// renderedWith renders the minimal values with a change, and returns why that fails, if it does.
func renderedWith(t *testing.T, change string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "change.yaml")
	require.NoError(t, os.WriteFile(file, []byte(change), 0o600))
	values, err := Values(append(examples()["minimal"], file)...)
	require.NoError(t, err)
	_, err = Release{Name: "gateway", Namespace: "somewhere", Values: values}.Render()
	return err
}

// refused is renderedWith for what has to fail.
func refused(t *testing.T, change string) string {
	t.Helper()
	err := renderedWith(t, change)
	require.Error(t, err, change)
	return err.Error()
}

// What looks like a password is one only where it is given as one.
func TestAServerMayHaveAnyName(t *testing.T) {
	t.Parallel()
	require.NoError(t, renderedWith(t, `redis: {existingSecret: "", url: "rediss://password-store:6379/0?dial_timeout=5s"}`))
}

func TestWrongValuesAreRefusedByName(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]string{
		"edges: {}":                                 "additional properties 'edges' not allowed",
		"edge: {replica: 3}":                        "at '/edge': additional properties 'replica' not allowed",
		"edge: {replicas: three}":                   "at '/edge/replicas': got string, want null or integer",
		"gossip: {existingSecret: null}":            "The gossip key is missing: make a Secret",
		"enabled: false":                            "enabled is for an umbrella chart's condition",
		"fullnameOverride: 1gw":                     "at '/fullnameOverride'",
		"nats: {storage: {size: 5Qi}}":              "at '/nats/storage/size'",
		"edge: {service: {loadBalancerClass: a}}":   "edge.service.loadBalancerClass needs edge.service.type=LoadBalancer",
		"edge: {service: {nodePort: 30000}}":        "edge.service.nodePort needs edge.service.type=NodePort or LoadBalancer",
		"edge: {replicas: 0}":                       "at '/edge/replicas': minimum: got 0, want 1",
		"edge: {drainSeconds: 30s}":                 "at '/edge/drainSeconds': got string, want integer",
		"edge: {settings: {MAX_CONECTIONS: 1}}":     "at '/edge/settings': additional properties 'MAX_CONECTIONS' not allowed",
		"edge: {settings: {PARTITIONS: 32}}":        "at '/edge/settings': additional properties 'PARTITIONS' not allowed",
		"edge: {settings: {DRAIN_PERIOD: 1m}}":      "at '/edge/settings': additional properties 'DRAIN_PERIOD' not allowed",
		"edge: {settings: {WS_AUTH_TIMEOUT: soon}}": "at '/edge/settings/WS_AUTH_TIMEOUT': 'soon' does not match pattern",
		"settings: {PARTITIONS: 5000}":              "at '/settings/PARTITIONS': maximum: got 5,000, want 1,024",
		"settings: {LOG_LEVEL: loud}":               "at '/settings/LOG_LEVEL': value must be one of 'debug', 'info', 'warn', 'error'",
		"settings: {LOG_MAX_BYTES: lots}":           "at '/settings/LOG_MAX_BYTES': 'lots' does not match pattern",
		"settings: {MAX_CONNECTIONS: 1}":            "at '/settings': additional properties 'MAX_CONNECTIONS' not allowed",
		"nats: {urls: [\"nats://u:p@nats\"]}":       "at '/nats/urls/0': 'nats://u:p@nats' does not match pattern",
		"edge: {service: {type: External}}":         "at '/edge/service/type': value must be one of",
		"nats: {jetstreamDomain: $JS.hub.API}":      "at '/nats/jetstreamDomain': '$JS.hub.API' does not match pattern",
		"nats: {enabled: true, urls: [], credsSecret: null, existingSecret: a, jetstreamDomain: hub}": "nats.jetstreamDomain cannot go with nats.enabled",
		"image: {digest: latest}":                                           "at '/image/digest': 'latest' does not match pattern",
		"nats: {urls: []}":                                                  "NATS is missing: give nats.existingSecret",
		"nats: {enabled: true}":                                             "nats.urls cannot go with nats.enabled",
		"nats: {urls: [], existingSecret: a, credsSecret: b}":               "nats.credsSecret needs nats.urls",
		"nats: {credsSecret: a, nkeySecret: b}":                             "nats.nkeySecret needs nats.urls, and no nats.credsSecret",
		"nats: {tlsClientCertificate: true}":                                "nats.tlsClientCertificate needs nats.tlsSecret",
		"redis: {tlsClientCertificate: true}":                               "redis.tlsClientCertificate needs redis.tlsSecret",
		"postgres: {tlsSecret: a}":                                          "postgres.tlsSecret needs postgres.existingSecret",
		"{redis: {url: \"\", enabled: true, tlsSecret: a}}":                 "redis.tlsSecret cannot go with redis.enabled",
		"redis: {url: \"redis://h?sentinel_password=p\"}":                   "redis.url has a password behind the ?, and would stand in a ConfigMap",
		"edge: {settings: {JWT_JWKS_URL: \"https://u:p@keys.example/\"}}":   "settings.JWT_JWKS_URL has a user or a password, and would stand in a ConfigMap",
		"settings: {OTEL_EXPORTER_OTLP_ENDPOINT: \"http://u:p@collector\"}": "settings.OTEL_EXPORTER_OTLP_ENDPOINT has a user or a password",
		"settings: {OTEL_EXPORTER_OTLP_HEADERS: a=b}":                       "at '/settings': additional properties 'OTEL_EXPORTER_OTLP_HEADERS' not allowed",
		"test: {url: \"wss://u:p@gateway.example/daemon/ws\"}":              "at '/test/url'",
		"jwt: {publicKeys: {existingSecret: a}}":                            "jwt.publicKeys needs existingSecret, and pem or jwks",
		"edge: {clientCASecret: a}":                                         "edge.clientCASecret needs edge.tlsSecret",
		"{nats: {urls: [], enabled: true}, settings: {STREAM_REPLICAS: 3}}": "STREAM_REPLICAS cannot be over 1",
		"redis: {url: \"\"}":                                                "Redis is missing: give redis.existingSecret",
		"redis: {existingSecret: a}":                                        "redis.url cannot go with",
		"jwt: {existingSecret: \"\"}":                                       "The secret of the daemons' tokens is missing",
		"edge: {autoscaling: {enabled: true, minReplicas: 30}}":             "edge.autoscaling.minReplicas is over maxReplicas",
		"ingress: {enabled: true}":                                          "ingress.enabled needs ingress.host",
		"gateway: {enabled: true}":                                          "gateway.enabled needs gateway.parentRefs",
		"edge: {settings: {WS_AUTH_TIMEOUT: 50ms}}":                         "at '/edge/settings/WS_AUTH_TIMEOUT': '50ms' does not match pattern",
		"edge: {autoscaling: {keda: {enabled: true}}}":                      "edge.autoscaling.keda.enabled needs edge.autoscaling.enabled",
		"backup: {s3: {existingSecret: a}}":                                 "backup.s3.existingSecret needs backup.s3.url",
		"backup: {s3: {url: \"s3://bucket\"}}":                              "at '/backup/s3/url'",
		"edge: {terminationGracePeriodSeconds: 5}":                          "edge.terminationGracePeriodSeconds is under the 60 s that its stop takes",
		"commonLabels: {app.kubernetes.io/component: a}":                    "invalid propertyName 'app.kubernetes.io/component'",
		"imagePullSecrets: [{secret: a}]":                                   "at '/imagePullSecrets/0'",
		"edge: {extraEnv: [{value: a}]}":                                    "at '/edge/extraEnv/0': missing property 'name'",
		"intake: {enabled: true}":                                           "intake.enabled needs API keys: give intake.existingSecret",
		"intake: {enabled: true, existingSecret: a, clientCASecret: b}":     "intake.clientCASecret needs intake.tlsSecret",
		"intake: {enabled: true, apiKeys: {a: secret}}":                     "at '/intake/apiKeys/a': 'secret' does not match pattern",
		"intake: {enabled: true, existingSecret: a, apiKeys: {a: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}}": "intake.existingSecret cannot go with intake.apiKeys",
		"intake: {ingress: {enabled: true, host: a}}":                                                                        "intake.ingress and intake.gateway need intake.enabled",
		"intake: {enabled: true, existingSecret: a, ingress: {enabled: true}}":                                               "intake.ingress.enabled needs intake.ingress.host",
		"intake: {enabled: true, existingSecret: a, gateway: {enabled: true}}":                                               "intake.gateway.enabled needs intake.gateway.parentRefs",
		"{ingress: {enabled: true, host: a}, intake: {enabled: true, existingSecret: a, ingress: {enabled: true, host: a}}}": "intake.ingress.host must be another host than ingress.host",
		"monitoring: {podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}":                                         "cannot both be enabled",
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, refused(t, change), want)
		})
	}
}

// A value that the schema does not know would be refused, so this also finds
// defaults that it forbids.
func TestTheSchemaKnowsEveryValueAndNoOther(t *testing.T) {
	t.Parallel()
	read := func(name string, into any) {
		text, err := os.ReadFile(filepath.Join(ChartDir(), name))
		require.NoError(t, err)
		if filepath.Ext(name) == ".json" {
			require.NoError(t, json.Unmarshal(text, into))
		} else {
			require.NoError(t, yaml.UnmarshalStrict(text, into))
		}
	}
	var values, schema map[string]any
	read("values.yaml", &values)
	read("values.schema.json", &schema)
	delete(schema["properties"].(map[string]any), "global") // that of charts around this one, with whatever they have in it
	delete(values, "global")
	requireSame(t, "", values, schema)
}

// optionOfComponents reports whether a value is one that each component may
// have, which the README describes once for all of them.
func optionOfComponents(property map[string]any) bool {
	reference, _ := property["$ref"].(string)
	return strings.HasPrefix(reference, "#/$defs/podOptions/") || strings.HasPrefix(reference, "#/$defs/workloadOptions/")
}

func requireSame(t *testing.T, path string, values, schema map[string]any) {
	t.Helper()
	require.Equal(t, false, schema["additionalProperties"], "%s allows anything", path)
	properties := schema["properties"].(map[string]any)
	for key, property := range properties {
		if path != "" && optionOfComponents(property.(map[string]any)) {
			continue
		}
		require.Contains(t, values, key, "the schema has %s%s, values.yaml has not", path, key)
	}
	for key, value := range values {
		require.Contains(t, properties, key, "values.yaml has %s%s, the schema has not", path, key)
		nested, isMap := value.(map[string]any)
		property := properties[key].(map[string]any)
		if _, described := property["properties"]; isMap && described {
			requireSame(t, path+key+".", nested, property)
		}
	}
}
