package check

import (
	"encoding/base64"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/scheme"
)

// cluster is one that holds some Secrets and ConfigMaps, and nothing else.
type cluster struct {
	client dynamic.Interface
}

func clusterWith(secrets ...runtime.Object) cluster {
	return cluster{fake.NewSimpleDynamicClient(scheme.Scheme, secrets...)}
}

func (c cluster) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return c.client.Resource(resourceOf(apiVersion, kind)), true, nil
}

func resourceOf(apiVersion, kind string) schema.GroupVersionResource {
	version, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		panic(err) // the chart's templates have it
	}
	return version.WithResource(map[string]string{"Secret": "secrets", "ConfigMap": "configmaps"}[kind])
}

// secretsOf renders the evaluation, which makes up all secrets, on a cluster.
func secretsOf(t *testing.T, c cluster) map[string]*corev1.Secret {
	t.Helper()
	values, err := Values("values-evaluation.yaml")
	require.NoError(t, err)
	templates, err := Release{Name: "gateway", Namespace: "somewhere", Values: values, Cluster: c}.Render()
	require.NoError(t, err)
	objects, err := Objects(templates)
	require.NoError(t, err)
	return all[corev1.Secret](&installation{t: t, values: values, objects: objects})
}

func TestSecretsThatTheChartMadeUpAreKeptOverUpgrades(t *testing.T) {
	t.Parallel()
	first := secretsOf(t, clusterWith())
	require.Len(t, first, 4)
	var installed []runtime.Object
	for _, s := range first {
		s.Namespace, s.TypeMeta = "somewhere", metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
		installed = append(installed, s)
	}
	for name, s := range secretsOf(t, clusterWith(installed...)) {
		require.Equal(t, first[name].Data, s.Data, name)
	}
	for name, s := range secretsOf(t, clusterWith()) {
		require.NotEqual(t, first[name].Data, s.Data, "%s is the same for everybody", name)
	}
}

func TestSecretsThatTheChartMakesUpAreFitForTheirUse(t *testing.T) {
	t.Parallel()
	made := secretsOf(t, clusterWith())
	key, err := base64.StdEncoding.DecodeString(string(made["gateway-daemon-gateway-gossip"].Data["gossip-keys"]))
	require.NoError(t, err)
	require.Len(t, key, 32)
	require.GreaterOrEqual(t, len(made["gateway-daemon-gateway-jwt"].Data["jwt-secret"]), 32)
	nats := made["gateway-daemon-gateway-nats"].Data
	for _, user := range []string{"edge", "router", "bridge", "admin", "backend", "operator", "backup"} {
		password := string(nats[user+"-password"])
		// NATS reads a variable of its configuration as a value, and would take 1e5 for a number.
		require.Regexp(t, regexp.MustCompile(`^[a-z][a-zA-Z0-9]{20,}$`), password)
		require.Equal(t, "nats://"+user+":"+password+"@gateway-daemon-gateway-nats:4222", string(nats[user+"-url"]))
	}
}
