package check

import (
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// Alerts and dashboards have templates of their own, in the same brackets as
// Helm's, and come through unchanged.
func TestEachFileOfAlertsAndDashboardsBecomesAnObject(t *testing.T) {
	t.Parallel()
	values, err := Values(examples()["everything"]...)
	require.NoError(t, err)
	const dashboard = `{"title": "Example", "legend": "{{ pod }}"}` + "\n"
	templates, err := Release{Name: "gateway", Namespace: "somewhere", Values: values, Files: map[string]string{
		"files/dashboards/example.json": dashboard,
		"files/alerts/example.yaml": `
groups:
  - name: example
    rules:
      - alert: Example
        expr: up == 0
        for: 5m
        annotations: {summary: "{{ $labels.pod }} is down"}
`,
	}}.Render()
	require.NoError(t, err)
	objects, err := Objects(templates)
	require.NoError(t, err)
	c := &installation{t: t, values: values, objects: objects}

	rule := all[monitoring.PrometheusRule](c)["gw-example"]
	require.NotNil(t, rule)
	require.Equal(t, "{{ $labels.pod }} is down", rule.Spec.Groups[0].Rules[0].Annotations["summary"])
	config := all[corev1.ConfigMap](c)["gw-dashboard-example"]
	require.NotNil(t, config)
	require.Equal(t, map[string]string{"gw-example.json": dashboard}, config.Data)
	require.Equal(t, "1", config.Labels["grafana_dashboard"])
	require.Equal(t, "Gateway", config.Annotations["grafana_folder"])
}
