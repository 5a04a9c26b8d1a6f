package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// scaledObject is what the chart says in a ScaledObject of KEDA: the fields of
// keda.sh/v1alpha1 that it uses, so that a misspelled one is an error.
type scaledObject struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Spec            struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount int32 `json:"minReplicaCount"`
		MaxReplicaCount int32 `json:"maxReplicaCount"`
		Advanced        struct {
			HorizontalPodAutoscalerConfig struct {
				Name     string                                         `json:"name"`
				Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []struct {
			Type       string            `json:"type"`
			MetricType string            `json:"metricType"`
			Metadata   map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// KEDA makes a HorizontalPodAutoscaler out of its object: the chart must not make
// another one, and what it says of the pace must be the same.
func TestKEDACanTakeThePlaceOfTheChartsAutoscaler(t *testing.T) {
	t.Parallel()
	plain, err := Values(examples()["everything"]...)
	require.NoError(t, err)
	own := all[autoscalingv2.HorizontalPodAutoscaler](install(t, plain))
	require.Len(t, own, 2)
	for _, tier := range []string{"edge", "router"} {
		plain[tier].(map[string]any)["autoscaling"].(map[string]any)["keda"] = map[string]any{
			"enabled": true, "triggers": []any{map[string]any{"type": "cron", "metadata": map[string]any{"start": "0 8 * * *", "desiredReplicas": "5", "of": "{{ .Release.Name }}"}}},
		}
	}
	plain["edge"].(map[string]any)["autoscaling"].(map[string]any)["keda"].(map[string]any)["prometheusURL"] = "http://prometheus.monitoring:9090"
	templates, err := Release{Name: "gateway", Namespace: "somewhere", Values: plain}.Render()
	require.NoError(t, err)
	scaled := map[string]scaledObject{}
	for _, template := range templates {
		if strings.HasSuffix(template.Name, ".txt") {
			continue
		}
		documents, err := Documents(template.Text)
		require.NoError(t, err)
		for _, document := range documents {
			var o object
			require.NoError(t, yaml.Unmarshal([]byte(document), &o))
			require.NotEqual(t, "HorizontalPodAutoscaler", o["kind"])
			if o["kind"] == "ScaledObject" {
				var s scaledObject
				require.NoError(t, yaml.UnmarshalStrict([]byte(document), &s))
				scaled[s.Metadata.Name] = s
			}
		}
	}
	require.Len(t, scaled, 2)
	for name, s := range scaled {
		require.Equal(t, "keda.sh/v1alpha1", s.APIVersion)
		require.Equal(t, name, s.Spec.ScaleTargetRef.Name)
		require.Equal(t, name, s.Spec.Advanced.HorizontalPodAutoscalerConfig.Name, "upgrades look for it")
		require.Equal(t, *own[name].Spec.MinReplicas, s.Spec.MinReplicaCount)
		require.Equal(t, own[name].Spec.MaxReplicas, s.Spec.MaxReplicaCount)
		require.Equal(t, own[name].Spec.Behavior, s.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior)
		require.Equal(t, "cpu", s.Spec.Triggers[0].Type)
		last := s.Spec.Triggers[len(s.Spec.Triggers)-1]
		require.Equal(t, "gateway", last.Metadata["of"])
	}
	connections := scaled["gw-edge"].Spec.Triggers[1]
	require.Equal(t, "30000", connections.Metadata["threshold"])
	require.Equal(t, `sum(gateway_connections{namespace="somewhere", instance=~"gw-edge-.+"})`, connections.Metadata["query"])
	require.Len(t, scaled["gw-router"].Spec.Triggers, 2)
}
