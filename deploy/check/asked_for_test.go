package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// The table has values that can be copied, and names of tests that exist.
func TestTheReadmesTableOfWhatIsOftenAskedForIsTrue(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join(ChartDir(), "README.md"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(Root(), "deploy", "check", "*_test.go"))
	require.NoError(t, err)
	var tests strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		tests.Write(text)
	}
	_, table, found := strings.Cut(string(readme), "| asked for | values | test |\n|---|---|---|\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	require.GreaterOrEqual(t, len(rows), 20)
	for _, row := range rows {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		require.Len(t, cells, 3, row)
		require.Contains(t, tests.String(), "func "+cells[2]+"(t *testing.T)", row)
		exampleWith(t, "minimal", strings.Trim(cells[1], "`"))
	}
}

func TestMonitorsHaveTheLabelsByWhichPrometheusFindsThem(t *testing.T) {
	t.Parallel()
	pods := all[monitoring.PodMonitor](exampleWith(t, "minimal", "monitoring: {podMonitor: {enabled: true, labels: {release: prometheus}}}"))
	services := all[monitoring.ServiceMonitor](exampleWith(t, "minimal", "monitoring: {serviceMonitor: {enabled: true, labels: {release: prometheus}}}"))
	require.Equal(t, "prometheus", pods["gateway-daemon-gateway"].Labels["release"])
	require.Equal(t, "prometheus", services["gateway-daemon-gateway"].Labels["release"])
}

// kubectl compares lists such as these as a whole with what the API server has
// made of them, so what it would fill in has to be there.
func TestApplyingTheSameAgainChangesNothing(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for name, policy := range all[networkingv1.NetworkPolicy](c) {
			var ports []networkingv1.NetworkPolicyPort
			for _, rule := range policy.Spec.Ingress {
				ports = append(ports, rule.Ports...)
			}
			for _, rule := range policy.Spec.Egress {
				ports = append(ports, rule.Ports...)
			}
			for _, port := range ports {
				require.NotNil(t, port.Protocol, "%s: port %s", name, port.Port.String())
			}
		}
		for name, set := range all[appsv1.StatefulSet](c) {
			for _, claim := range set.Spec.VolumeClaimTemplates {
				require.Equal(t, "PersistentVolumeClaim", claim.Kind, name)
				require.NotNil(t, claim.Spec.VolumeMode, name)
				require.NotEmpty(t, claim.Status.Phase, name)
			}
		}
	})
}
