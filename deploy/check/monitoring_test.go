package check

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
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

// alertsOf are the alerts of an installation with all of monitoring, by name.
func alertsOf(t *testing.T, change string) map[string]monitoring.Rule {
	t.Helper()
	file := "{monitoring: {rules: " + change + "}, backup: {enabled: true}}"
	found := map[string]monitoring.Rule{}
	for _, object := range all[monitoring.PrometheusRule](exampleWith(t, "everything", file)) {
		for _, group := range object.Spec.Groups {
			for _, rule := range group.Rules {
				found[rule.Alert] = rule
			}
		}
	}
	return found
}

func TestEveryAlertCanBeSwitchedOffAndChanged(t *testing.T) {
	t.Parallel()
	plain := alertsOf(t, "{}")
	require.Greater(t, len(plain), 60)
	var off, labelled []string
	for name := range plain {
		off = append(off, name+": {enabled: false}")
		labelled = append(labelled, name+": {for: 17m, expr: up == 7, labels: {severity: page, own: true}, annotations: {summary: mine}}")
	}
	require.Empty(t, alertsOf(t, "{alerts: {"+strings.Join(off, ", ")+"}}"))
	for name, rule := range alertsOf(t, "{alertLabels: {team: platform, own: false}, alerts: {"+strings.Join(labelled, ", ")+"}}") {
		require.Equal(t, "up == 7", rule.Expr.StrVal, name)
		require.EqualValues(t, "17m", *rule.For, name)
		require.Equal(t, map[string]string{"severity": "page", "team": "platform", "own": "true"}, rule.Labels, name)
		require.Equal(t, "mine", rule.Annotations["summary"], name)
		require.NotEmpty(t, rule.Annotations["description"], name)
	}
}

// An alert whose number is not found could not be changed, and one that is found
// twice would be changed in the wrong place as well.
func TestEveryThresholdStandsInItsExpressionOnce(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(ChartDir(), "files", "thresholds.yaml"))
	require.NoError(t, err)
	var thresholds map[string]string
	require.NoError(t, yaml.UnmarshalStrict(text, &thresholds))
	plain := alertsOf(t, "{}")
	var changes []string
	for name, threshold := range thresholds {
		require.Contains(t, plain, name)
		require.Equal(t, 1, strings.Count(plain[name].Expr.StrVal, threshold), name)
		require.Regexp(t, `[<>]=? (on \([a-z, ]+\) )?[0-9.]+$`, threshold, name)
		changes = append(changes, name+": {threshold: 12345.5}")
	}
	for name, rule := range alertsOf(t, "{alerts: {"+strings.Join(changes, ", ")+"}}") {
		if _, has := thresholds[name]; has {
			require.Contains(t, rule.Expr.StrVal, " 12345.5", name)
			require.NotRegexp(t, regexp.QuoteMeta(thresholds[name])+`($|[^0-9.])`, rule.Expr.StrVal, name)
		} else {
			require.Equal(t, plain[name], rule, name)
		}
	}
	require.Contains(t, refused(t, "monitoring: {rules: {enabled: true, alerts: {GatewayNatsAway: {threshold: 1}}}}"), "its expression has no threshold; give expr instead")
	require.Contains(t, refused(t, "monitoring: {rules: {alerts: {GatewayNatAway: {enabled: false}}}}"), "there is no such alert")
}

func TestRunbooksCanBeElsewhere(t *testing.T) {
	t.Parallel()
	for name, rule := range alertsOf(t, "{runbookURL: 'https://wiki.example/gateway#'}") {
		require.Equal(t, "https://wiki.example/gateway#"+strings.ToLower(name), rule.Annotations["runbook_url"])
	}
	for name, rule := range alertsOf(t, "{runbookURL: null}") {
		require.NotContains(t, rule.Annotations, "runbook_url", name)
	}
}

func TestTheAlertOfBackupsIsAboutTheReleasesOwn(t *testing.T) {
	t.Parallel()
	expression := alertsOf(t, "{}")["GatewayBackupOld"].Expr.StrVal
	require.Contains(t, expression, `{cronjob="gw-backup"}`)
	require.NotContains(t, expression, "daemon-gateway")
	require.NotContains(t, all[monitoring.PrometheusRule](exampleWith(t, "everything", "backup: {enabled: false}")), "gw-backup")
}

func TestDashboardsGoIntoAFolder(t *testing.T) {
	t.Parallel()
	for name, config := range all[corev1.ConfigMap](exampleWith(t, "everything", "monitoring: {dashboards: {folder: Neolith, folderAnnotation: k8s-sidecar-target-directory}}")) {
		if config.Labels["grafana_dashboard"] != "" {
			require.Equal(t, "Neolith", config.Annotations["k8s-sidecar-target-directory"], name)
		}
	}
}
