package check

import (
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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

// What finds nodes to scrape finds all of them and nothing else, and names them
// by their pods, as alerts and dashboards do.
func TestMonitorsFindTheAdminPortOfEachTier(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		named := []monitoring.RelabelConfig{{SourceLabels: []monitoring.LabelName{"__meta_kubernetes_pod_name"}, TargetLabel: "instance"}}
		for _, monitor := range all[monitoring.PodMonitor](c) {
			found := map[string]bool{}
			for _, w := range c.matching(&monitor.Spec.Selector) {
				found[w.component()] = true
				require.True(t, hasPort(w.container(), intstr.FromString(*monitor.Spec.PodMetricsEndpoints[0].Port), corev1.ProtocolTCP))
			}
			require.Equal(t, map[string]bool{"edge": true, "router": true, "bridge": true}, found)
			require.Equal(t, named, monitor.Spec.PodMetricsEndpoints[0].RelabelConfigs)
			require.Equal(t, []string{"app.kubernetes.io/component"}, monitor.Spec.PodTargetLabels)
		}
		for _, monitor := range all[monitoring.ServiceMonitor](c) {
			found := map[string]bool{}
			for name, service := range all[corev1.Service](c) {
				if !selects(t, &monitor.Spec.Selector, service.Labels) {
					continue
				}
				require.True(t, service.Spec.PublishNotReadyAddresses, name)
				require.Equal(t, monitor.Spec.Endpoints[0].Port, service.Spec.Ports[0].Name)
				behind := c.matching(&metav1.LabelSelector{MatchLabels: service.Spec.Selector})
				require.Len(t, behind, 1, name)
				found[behind[0].component()] = true
				require.Equal(t, behind[0].component(), service.Labels["app.kubernetes.io/component"])
			}
			require.Equal(t, map[string]bool{"edge": true, "router": true, "bridge": true}, found)
			require.Equal(t, named, monitor.Spec.Endpoints[0].RelabelConfigs)
			require.Equal(t, []string{"app.kubernetes.io/component"}, monitor.Spec.TargetLabels)
			require.Equal(t, "prometheus", monitor.Labels["release"])
		}
	})
}
