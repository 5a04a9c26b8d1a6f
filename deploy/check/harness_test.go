package check

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// examples are the values that every test of the rendered objects goes through.
func examples() map[string][]string {
	testdata := func(name string) string { return filepath.Join(Root(), "deploy", "check", "testdata", name) }
	return map[string][]string{
		"evaluation": {"values-evaluation.yaml"},
		"operated":   {"values-evaluation.yaml", testdata("operated.yaml")},
		"production": {"values-production.yaml"},
		"everything": {testdata("everything.yaml")},
		"minimal":    {testdata("minimal.yaml")},
		"intake":     {testdata("intake.yaml")},
	}
}

// eachExample runs a test for each of the examples, as a release of the chart.
func eachExample(t *testing.T, test func(t *testing.T, c *installation)) {
	for name, files := range examples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values, err := Values(files...)
			require.NoError(t, err)
			c := install(t, values)
			c.example = name
			test(t, c)
		})
	}
}

// installation is what an installation of the chart consists of.
type installation struct {
	t       *testing.T
	example string // the name of the example, if it is one
	values  map[string]any
	objects []runtime.Object
}

func install(t *testing.T, values map[string]any) *installation {
	t.Helper()
	templates, err := Release{Name: "gateway", Namespace: "somewhere", Values: values}.Render()
	require.NoError(t, err)
	objects, err := Objects(templates)
	require.NoError(t, err)
	return &installation{t: t, values: values, objects: objects}
}

// all returns the objects of one kind, by name.
func all[T any, P interface {
	*T
	metav1.Object
}](c *installation) map[string]P {
	found := map[string]P{}
	for _, o := range c.objects {
		if typed, ok := any(o).(P); ok {
			require.NotContains(c.t, found, typed.GetName(), "two objects of one name")
			found[typed.GetName()] = typed
		}
	}
	return found
}

// workload is whatever has pods.
type workload struct {
	name     string
	selector *metav1.LabelSelector // nil for Jobs and the pod of the test
	pod      corev1.PodTemplateSpec
}

func (w workload) component() string { return w.pod.Labels["app.kubernetes.io/component"] }

func (w workload) container() corev1.Container { return w.pod.Spec.Containers[0] }

func (c *installation) workloads() []workload {
	var list []workload
	for name, d := range all[appsv1.Deployment](c) {
		list = append(list, workload{name, d.Spec.Selector, d.Spec.Template})
	}
	for name, s := range all[appsv1.StatefulSet](c) {
		list = append(list, workload{name, s.Spec.Selector, s.Spec.Template})
	}
	for name, j := range all[batchv1.Job](c) {
		list = append(list, workload{name, nil, j.Spec.Template})
	}
	for name, j := range all[batchv1.CronJob](c) {
		list = append(list, workload{name, nil, j.Spec.JobTemplate.Spec.Template})
	}
	for name, p := range all[corev1.Pod](c) {
		list = append(list, workload{name, nil, corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}})
	}
	require.NotEmpty(c.t, list)
	return list
}

// tiers returns the Deployments of the gateway's tiers, by tier.
func (c *installation) tiers() map[string]*appsv1.Deployment {
	found := map[string]*appsv1.Deployment{}
	for _, d := range all[appsv1.Deployment](c) {
		if tier := d.Labels["app.kubernetes.io/component"]; Tiers[tier] != "" {
			found[tier] = d
		}
	}
	require.ElementsMatch(c.t, slices.Collect(maps.Keys(Tiers)), slices.Collect(maps.Keys(found)))
	return found
}

// matching returns the workloads whose pods a selector selects.
func (c *installation) matching(selector *metav1.LabelSelector) []workload {
	c.t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(c.t, err)
	return slices.DeleteFunc(c.workloads(), func(w workload) bool { return !s.Matches(labelsOf(w)) })
}

// environment is what a container's environment holds; references to fields
// and Secrets are left out of values, but not of names.
func (c *installation) environment(container corev1.Container) (names []string, values map[string]string) {
	values = map[string]string{}
	maps := all[corev1.ConfigMap](c)
	for _, from := range container.EnvFrom {
		require.NotNil(c.t, from.ConfigMapRef, "only ConfigMaps are taken as environment")
		require.Contains(c.t, maps, from.ConfigMapRef.Name)
		for name, value := range maps[from.ConfigMapRef.Name].Data {
			names, values[name] = append(names, name), value
		}
	}
	for _, e := range container.Env {
		require.NotContains(c.t, names, e.Name, "given twice")
		names = append(names, e.Name)
		if e.ValueFrom == nil {
			values[e.Name] = e.Value
		}
	}
	return names, values
}
