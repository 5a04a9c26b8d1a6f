package check

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// What the tests in deploy/nats start is what the chart makes of the values.
func TestTheConfigurationOfNATSIsWhatItsChartRenders(t *testing.T) {
	t.Parallel()
	want, err := NATSConfig()
	require.NoError(t, err)
	have, err := os.ReadFile(filepath.Join(Root(), "deploy", "nats", "nats.conf"))
	require.NoError(t, err)
	require.Equal(t, string(want), string(have), hint)
}

func TestTheServersOfNATSHaveAPasswordForEachUserAndStandApart(t *testing.T) {
	t.Parallel()
	objects, err := NATSObjects()
	require.NoError(t, err)
	c := &installation{t: t, objects: objects}
	set := all[appsv1.StatefulSet](c)["nats"]
	require.EqualValues(t, 3, *set.Spec.Replicas)
	given := map[string]bool{}
	for _, container := range set.Spec.Template.Spec.Containers {
		if container.Name != "nats" {
			continue
		}
		for _, e := range container.Env {
			given[e.Name] = e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil
		}
	}
	config, err := NATSConfig()
	require.NoError(t, err)
	for _, match := range regexp.MustCompile(`\$([A-Z]+_PASSWORD)`).FindAllStringSubmatch(string(config), -1) {
		require.True(t, given[match[1]], match[1])
	}
	require.Len(t, set.Spec.Template.Spec.TopologySpreadConstraints, 2)
	policy := all[networkingv1.NetworkPolicy](c)["nats"]
	require.True(t, selects(t, &policy.Spec.PodSelector, set.Spec.Template.Labels), "the policy is about these pods")
	require.Equal(t, "250Gi", set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String())
}
