package check

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// changed is the production installation with a change of its values.
func changed(t *testing.T, change string) *installation {
	t.Helper()
	return exampleWith(t, "production", change)
}

// A restart of edges costs every daemon a reconnect, so it must not come of what
// edges have nothing to do with.
func TestAnUpgradeRestartsOnlyTheTiersThatItConcerns(t *testing.T) {
	t.Parallel()
	before := changed(t, "{}").tiers()
	all := []string{"edge", "router", "bridge"}
	intake := "{enabled: true, existingSecret: a}"
	for change, tiers := range map[string][]string{
		"settings: {LOG_LEVEL: debug}":                 all,
		"settings: {EVENT_RETENTION: 24h}":             all,
		"image: {tag: other}":                          all,
		"edge: {settings: {MAX_CONNECTIONS: 1}}":       {"edge"},
		"router: {settings: {FETCH_BATCH: 1}}":         {"router"},
		"bridge: {settings: {PUBLISH_BUFFER: 1}}":      {"bridge"},
		"edge: {drainSeconds: 60}":                     {"edge"},
		"edge: {preStopSeconds: 20}":                   {"edge"},
		"edge: {tlsSecret: a}":                         {"edge"},
		"edge: {resources: {limits: {memory: 4Gi}}}":   {"edge"},
		"edge: {podAnnotations: {again: \"1\"}}":       {"edge"},
		"router: {podAnnotations: {again: \"1\"}}":     {"router"},
		"bridge: {podAnnotations: {again: \"1\"}}":     {"bridge"},
		"jwt: {existingSecret: a}":                     {"edge"},
		"jwt: {previousKey: a}":                        {"edge"},
		"gossip: {existingSecret: a}":                  {"edge", "router"},
		"nats: {existingSecret: a}":                    all,
		"nats: {tlsSecret: a}":                         all,
		"nats: {restricted: false}":                    all,
		"redis: {existingSecret: a}":                   {"bridge"},
		"redis: {addrs: [\"a:1\"], masterName: main}":  {"bridge"},
		"postgres: {existingSecret: a}":                all,
		"intake: " + intake:                            {"bridge"},
		"edge: {service: {type: LoadBalancer}}":        nil,
		"edge: {autoscaling: {maxReplicas: 50}}":       nil,
		"router: {replicas: 5}":                        nil,
		"ingress: {host: other.example.com}":           nil,
		"networkPolicy: {metricsFrom: []}":             nil,
		"monitoring: {rules: {enabled: false}}":        nil,
		"test: {url: \"wss://gateway.example.com/a\"}": nil,
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			for tier, d := range changed(t, change).tiers() {
				if contains(tiers, tier) {
					require.NotEqual(t, before[tier].Spec.Template, d.Spec.Template, tier)
				} else {
					require.Equal(t, before[tier].Spec.Template, d.Spec.Template, tier)
				}
			}
		})
	}
}

// Bridges read API keys again by themselves, and routes are not their business.
func TestAnotherAPIKeyRestartsNothing(t *testing.T) {
	t.Parallel()
	template := func(keys, host string) map[string]*appsv1.Deployment {
		return changed(t, "intake: {enabled: true, apiKeys: {"+keys+"}, ingress: {enabled: true, host: "+host+"}}").tiers()
	}
	const hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	before, after := template("a: "+hash, "one.example.com"), template("a: "+hash+", b: "+hash, "two.example.com")
	for tier := range Tiers {
		require.Equal(t, before[tier].Spec.Template, after[tier].Spec.Template, tier)
	}
}

func TestAutoscalersTakePodsAwaySlowlyAndOneByOne(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		scalers := all[autoscalingv2.HorizontalPodAutoscaler](c)
		for tier, d := range c.tiers() {
			scaler := scalers[d.Name]
			if scaler == nil {
				continue
			}
			down := scaler.Spec.Behavior.ScaleDown
			require.GreaterOrEqual(t, *down.StabilizationWindowSeconds, int32(900), tier)
			require.Len(t, down.Policies, 1, tier)
			require.Equal(t, autoscalingv2.PodsScalingPolicy, down.Policies[0].Type)
			require.EqualValues(t, 1, down.Policies[0].Value)
			require.GreaterOrEqual(t, int64(down.Policies[0].PeriodSeconds), *d.Spec.Template.Spec.TerminationGracePeriodSeconds,
				"one has gone before the next one goes")
			require.Equal(t, corev1.ResourceCPU, scaler.Spec.Metrics[0].Resource.Name)
			require.NotZero(t, d.Spec.Template.Spec.Containers[0].Resources.Requests.Cpu().MilliValue(), "the percentage is of it")
			if c.example == "everything" && tier == "edge" {
				require.Len(t, scaler.Spec.Metrics, 2)
				pods := scaler.Spec.Metrics[1].Pods
				require.Equal(t, "gateway_connections", pods.Metric.Name)
				require.EqualValues(t, 30000, pods.Target.AverageValue.Value())
			} else {
				require.Len(t, scaler.Spec.Metrics, 1, "by connections only where a metrics adapter exists")
			}
		}
	})
}
