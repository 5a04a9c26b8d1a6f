package check

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
)

// place is where a value stands: its path, and whether the schema asks for it.
type place struct {
	path     []string
	required bool
	section  bool
}

// places are all values of values.yaml but for global, sections first.
func places(t *testing.T) []place {
	t.Helper()
	values, err := Values("values.yaml")
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(ChartDir(), "values.schema.json"))
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(text, &schema))
	var list []place
	var walk func(path []string, values, schema map[string]any)
	walk = func(path []string, values, schema map[string]any) {
		required, _ := schema["required"].([]any)
		properties := schema["properties"].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(values)) {
			at := append(slices.Clone(path), key)
			nested, _ := values[key].(map[string]any)
			property := properties[key].(map[string]any)
			_, described := property["properties"]
			section := nested != nil && described
			list = append(list, place{at, slices.Contains(required, any(key)), section})
			if section && key != "global" {
				walk(at, nested, property)
			}
		}
	}
	walk(nil, values, schema)
	return list
}

// setNull sets a value to null, unless the values have one; it reports whether
// they had none.
func setNull(values map[string]any, path []string) bool {
	for _, key := range path[:len(path)-1] {
		nested, ok := values[key].(map[string]any)
		if !ok {
			nested = map[string]any{}
			values[key] = nested
		}
		values = nested
	}
	if _, given := values[path[len(path)-1]]; given {
		return false
	}
	values[path[len(path)-1]] = nil
	return true
}

// Helm takes out of the values what is null. Templates must bear that, or the
// schema must say which value cannot do without.
func TestEveryValueMayBeNullOrIsRefusedByName(t *testing.T) {
	t.Parallel()
	nullable := 0
	for example, files := range examples() {
		values, err := Values(files...)
		require.NoError(t, err)
		for _, p := range places(t) {
			if !p.required && !p.section && setNull(values, p.path) {
				nullable++
			}
		}
		templates, err := Release{Name: "gateway", Namespace: "somewhere", Values: values}.Render()
		require.NoError(t, err, example)
		_, err = Objects(templates)
		require.NoError(t, err, example)
	}
	require.Greater(t, nullable, 200)
	for _, sections := range []bool{true, false} {
		values := map[string]any{}
		var refused []string
		for _, p := range places(t) {
			if p.required && p.section == sections && (!sections || len(p.path) == 1) {
				require.True(t, setNull(values, p.path))
				refused = append(refused, p.path[len(p.path)-1])
			}
		}
		require.Greater(t, len(refused), 10)
		_, err := Release{Name: "gateway", Namespace: "somewhere", Values: values}.Render()
		require.ErrorContains(t, err, "missing propert")
		for _, name := range refused {
			require.ErrorContains(t, err, "'"+name+"'")
		}
	}
}

// The programs read the limit that the container has (package headroom): where it
// is written into their environment it would be wrong as soon as a vertical
// autoscaler changes it.
func TestAMemoryLimitIsWrittenAsOneLikesAndNowhereElse(t *testing.T) {
	t.Parallel()
	for _, limit := range []any{"512Mi", "1.5Gi", "512M", "2G", "2Gi", "0.5G", "1Ti", "900000Ki", "700000k", "1073741824", 1073741824, "1e9", "1.5e9", "1000000000000m"} {
		quantity := resource.MustParse(fmt.Sprint(limit))
		text, err := json.Marshal(limit)
		require.NoError(t, err)
		c := evaluated(t, "edge: {resources: {limits: {memory: "+string(text)+", cpu: 1.5}, requests: {cpu: 1}}}")
		edge := c.byComponent()["edge"].container()
		require.Equal(t, quantity.Value(), edge.Resources.Limits.Memory().Value(), limit)
	}
	for _, w := range evaluated(t, "edge: {resources: null}").workloads() {
		_, variables := evaluated(t, "{}").environment(w.container())
		require.NotContains(t, variables, "GOMEMLIMIT", w.name)
	}
}

// Reports: windmill-labs/windmill-helm-charts#543, helm/helm#12650.
func TestAnAutoscalerOfOnesOwnOwnsTheNumberOfPods(t *testing.T) {
	t.Parallel()
	c := evaluated(t, "{edge: {replicas: null}, router: {replicas: null}, bridge: {replicas: null}}")
	for tier, d := range c.tiers() {
		require.Nil(t, d.Spec.Replicas, tier)
		require.Contains(t, all[policyv1.PodDisruptionBudget](c), d.Name, "its pods are not to be taken away together")
	}
}

func TestTwoReleasesInANamespaceHaveNothingInCommon(t *testing.T) {
	t.Parallel()
	values, err := Values("values-evaluation.yaml", filepath.Join(Root(), "deploy", "check", "testdata", "monitored.yaml"))
	require.NoError(t, err)
	release := func(name string) *installation {
		templates, err := Release{Name: name, Namespace: "somewhere", Values: values}.Render()
		require.NoError(t, err)
		objects, err := Objects(templates)
		require.NoError(t, err)
		return &installation{t: t, values: values, objects: objects}
	}
	long := "release-" + strings.Repeat("x", 45)
	for _, names := range [][2]string{{"one", "two"}, {"gateway", "daemon-gateway"}, {"a", "a-edge"}, {long, "short"}} {
		first, second := release(names[0]), release(names[1])
		taken := map[string]bool{}
		for _, o := range first.objects {
			meta := o.(metav1.Object)
			kind := o.GetObjectKind().GroupVersionKind().Kind
			most := map[string]int{"Service": 63, "Deployment": 63, "StatefulSet": 52, "Job": 63, "Pod": 63}[kind] // what labels and names of pods are made of
			require.LessOrEqual(t, len(meta.GetName()), cmp.Or(most, 253), kind)
			taken[kind+"/"+meta.GetName()] = true
		}
		for _, o := range second.objects {
			require.NotContains(t, taken, o.GetObjectKind().GroupVersionKind().Kind+"/"+o.(metav1.Object).GetName())
		}
		for _, service := range all[corev1.Service](first) {
			require.Empty(t, second.matching(&metav1.LabelSelector{MatchLabels: service.Spec.Selector}), service.Name)
		}
		for _, w := range first.workloads() {
			if w.selector != nil {
				require.Empty(t, second.matching(w.selector), w.name)
			}
		}
	}
}

func TestNamesThatKubernetesRefusesAreRefusedBefore(t *testing.T) {
	t.Parallel()
	values, err := Values(examples()["minimal"]...)
	require.NoError(t, err)
	for _, name := range []string{"1gw", "my.gw"} {
		_, err := Release{Name: name, Namespace: "somewhere", Values: values}.Render()
		require.ErrorContains(t, err, "Name the objects with fullnameOverride, such as gw-")
		_, way, _ := strings.Cut(err.Error(), "such as ")
		changed := maps.Clone(values)
		changed["fullnameOverride"] = strings.TrimSpace(way)
		_, err = Release{Name: name, Namespace: "somewhere", Values: changed}.Render()
		require.NoError(t, err, "the way out")
	}
}

// An umbrella chart switches the gateway on and off, and has globals of its own.
// Reports: cert-manager/cert-manager#7334.
func TestAnUmbrellaChartSwitchesTheGatewayOnAndOff(t *testing.T) {
	t.Parallel()
	render := func(enabled bool) []runtime.Object {
		values, err := Values(examples()["minimal"]...)
		require.NoError(t, err)
		values["enabled"] = enabled
		templates, err := Release{Name: "company", Namespace: "somewhere", Umbrella: true, Values: map[string]any{
			"daemon-gateway": values,
			"global":         map[string]any{"imageRegistry": "registry.example", "region": "eu"},
		}}.Render()
		require.NoError(t, err)
		objects, err := Objects(templates)
		require.NoError(t, err)
		return objects
	}
	c := &installation{t: t, objects: render(true)}
	require.Equal(t, "registry.example/daemon-gateway:0.1.0", c.byComponent()["edge"].container().Image)
	require.Empty(t, render(false))
}

// Argo CD and Flux render without a cluster, again and again, and compare.
func TestEachRenderingIsTheSameUnlessSecretsAreToBeMadeUp(t *testing.T) {
	t.Parallel()
	for example, files := range examples() {
		values, err := Values(files...)
		require.NoError(t, err)
		first, second := install(t, values), install(t, values)
		made := all[corev1.Secret](first)
		if example == "evaluation" || example == "operated" {
			require.Len(t, made, 4)
			continue
		}
		for name := range made {
			require.Equal(t, "gw-intake", name, "hashes of API keys are values")
		}
		require.Equal(t, first.objects, second.objects, example)
	}
}

// away is a cluster that cannot be asked.
type away struct{}

func (away) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	if kind == "ConfigMap" {
		// Whether PARTITIONS is another number than before, which changes no object.
		return clusterWith().client.Resource(resourceOf(apiVersion, kind)), true, nil
	}
	return nil, false, errors.New(kind + " was looked up")
}

func TestNoObjectDependsOnWhatIsInTheClusterByDefault(t *testing.T) {
	t.Parallel()
	for _, example := range []string{"minimal", "intake"} {
		values, err := Values(examples()[example]...)
		require.NoError(t, err)
		_, err = Release{Name: "gateway", Namespace: "somewhere", Values: values, Cluster: away{}}.Render()
		require.NoError(t, err, example)
	}
}

// All nodes would refuse to start with another number, while NATS spreads events
// over it.
func TestAnotherNumberOfPartitionsIsRefused(t *testing.T) {
	t.Parallel()
	installed := func(data map[string]string) cluster {
		return clusterWith(&corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Name: "gateway-daemon-gateway-edge", Namespace: "somewhere"}, Data: data,
		})
	}
	render := func(partitions int, in cluster) error {
		values, err := Values("values-evaluation.yaml")
		require.NoError(t, err)
		values["settings"].(map[string]any)["PARTITIONS"] = partitions
		_, err = Release{Name: "gateway", Namespace: "somewhere", Values: values, Cluster: in}.Render()
		return err
	}
	require.NoError(t, render(32, clusterWith()))
	require.NoError(t, render(32, installed(map[string]string{"PARTITIONS": "32"})))
	require.NoError(t, render(16, installed(nil)), "16 is the default")
	require.ErrorContains(t, render(32, installed(nil)), "settings.PARTITIONS cannot be changed: this cluster was created with 16")
	require.ErrorContains(t, render(16, installed(map[string]string{"PARTITIONS": "32"})), "created with 32")
}

func TestSizesAreWrittenAsKubernetesAndNATSReadThem(t *testing.T) {
	t.Parallel()
	for _, size := range []string{`"1.5Ti"`, `"512M"`, `2000000000`} {
		for _, set := range all[appsv1.StatefulSet](evaluated(t, "nats: {storage: {size: "+size+"}, maxFileStore: 8589934592}")) {
			want := resource.MustParse(strings.Trim(size, `"`))
			require.Zero(t, want.Cmp(*set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage()), size)
		}
	}
	c := evaluated(t, "nats: {maxFileStore: 8589934592}")
	require.Contains(t, all[corev1.ConfigMap](c)["gateway-daemon-gateway-nats"].Data["nats.conf"], "max_file_store: 8589934592\n")
}
