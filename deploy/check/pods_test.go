package check

import (
	"encoding/json"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// components are whatever has pods.
var components = []string{"edge", "router", "bridge", "admin", "backup", "toolbox", "nats", "redis", "test"}

// evaluated is the evaluation with what operators may add to it, which has every
// component, with a change of its values.
func evaluated(t *testing.T, change string) *installation {
	t.Helper()
	return exampleWith(t, "operated", change)
}

// exampleWith is an example with a change of its values.
func exampleWith(t *testing.T, example, change string) *installation {
	t.Helper()
	file := filepath.Join(t.TempDir(), "change.yaml")
	require.NoError(t, os.WriteFile(file, []byte(change), 0o600))
	values, err := Values(append(examples()[example], file)...)
	require.NoError(t, err)
	return install(t, values)
}

// byComponent returns the workload of each component.
func (c *installation) byComponent() map[string]workload {
	found := map[string]workload{}
	for _, w := range c.workloads() {
		found[w.component()] = w
	}
	return found
}

// podOptions are the options that pods have under one name, for all of them and
// for those of one component: a value of each, and what it makes of a pod.
var podOptions = map[string]struct {
	value string
	has   func(w workload) bool
}{
	"podLabels":      {`{team: payments}`, func(w workload) bool { return w.pod.Labels["team"] == "payments" }},
	"podAnnotations": {`{example.com/inject: '{{ with secret "a" }}'}`, func(w workload) bool { return w.pod.Annotations["example.com/inject"] == `{{ with secret "a" }}` }},
	"extraEnv": {`[{name: SSL_CERT_FILE, value: '/ca/{{ .Release.Name }}'}]`, func(w workload) bool {
		return slices.Contains(w.container().Env, corev1.EnvVar{Name: "SSL_CERT_FILE", Value: "/ca/gateway"})
	}},
	"extraEnvFrom": {`[{secretRef: {name: proxy}}]`, func(w workload) bool {
		return slices.ContainsFunc(w.container().EnvFrom, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil && e.SecretRef.Name == "proxy" })
	}},
	"extraVolumes": {`[{name: ca, secret: {secretName: ca}}]`, func(w workload) bool {
		return slices.ContainsFunc(w.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "ca" && v.Secret.SecretName == "ca" })
	}},
	"extraVolumeMounts": {`[{name: ca, mountPath: /ca}]`, func(w workload) bool {
		return slices.ContainsFunc(w.container().VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "ca" && m.MountPath == "/ca" })
	}},
	"extraInitContainers": {`[{name: first, image: 'first:{{ .Chart.AppVersion }}', restartPolicy: Always}]`, func(w workload) bool {
		return len(w.pod.Spec.InitContainers) == 1 && strings.HasPrefix(w.pod.Spec.InitContainers[0].Image, "first:0.")
	}},
	"extraContainers": {`[{name: cloud-sql-proxy, image: proxy}]`, func(w workload) bool {
		return len(w.pod.Spec.Containers) == 2 && w.pod.Spec.Containers[1].Name == "cloud-sql-proxy" && w.container().Name != "cloud-sql-proxy"
	}},
	"podSecurityContext": {`{runAsNonRoot: true, fsGroup: 1000680000}`, func(w workload) bool {
		return w.pod.Spec.SecurityContext.FSGroup != nil && *w.pod.Spec.SecurityContext.FSGroup == 1000680000
	}},
	"securityContext": {`{seLinuxOptions: {type: gateway_t}}`, func(w workload) bool {
		options := w.container().SecurityContext.SELinuxOptions
		return options != nil && options.Type == "gateway_t"
	}},
	"serviceAccount": {`{create: false, name: mine}`, func(w workload) bool { return w.pod.Spec.ServiceAccountName == "mine" }},
	"dnsPolicy":      {`Default`, func(w workload) bool { return w.pod.Spec.DNSPolicy == corev1.DNSDefault }},
	"dnsConfig": {`{options: [{name: ndots, value: "1"}]}`, func(w workload) bool {
		return w.pod.Spec.DNSConfig != nil && w.pod.Spec.DNSConfig.Options[0].Name == "ndots"
	}},
	"hostAliases": {`[{ip: 192.0.2.1, hostnames: [db.example]}]`, func(w workload) bool {
		return len(w.pod.Spec.HostAliases) == 1 && w.pod.Spec.HostAliases[0].IP == "192.0.2.1"
	}},
	"runtimeClassName": {`gvisor`, func(w workload) bool {
		return w.pod.Spec.RuntimeClassName != nil && *w.pod.Spec.RuntimeClassName == "gvisor"
	}},
	"schedulerName":     {`other`, func(w workload) bool { return w.pod.Spec.SchedulerName == "other" }},
	"priorityClassName": {`high`, func(w workload) bool { return w.pod.Spec.PriorityClassName == "high" }},
	"nodeSelector":      {`{disk: ssd}`, func(w workload) bool { return w.pod.Spec.NodeSelector["disk"] == "ssd" }},
	"tolerations": {`[{key: dedicated, operator: Exists}]`, func(w workload) bool {
		return slices.Contains(w.pod.Spec.Tolerations, corev1.Toleration{Key: "dedicated", Operator: corev1.TolerationOpExists})
	}},
	"affinity": {`{podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: rack, labelSelector: {matchLabels: {release: '{{ .Release.Name }}'}}}]}}`,
		func(w workload) bool {
			affinity := w.pod.Spec.Affinity
			return affinity != nil && affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchLabels["release"] == "gateway"
		}},
	"topologySpreadConstraints": {`[{topologyKey: example.com/rack, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]`, func(w workload) bool {
		spread := w.pod.Spec.TopologySpreadConstraints
		return len(spread) == 1 && spread[0].TopologyKey == "example.com/rack" &&
			spread[0].LabelSelector.MatchLabels["app.kubernetes.io/component"] == w.component()
	}},
}

// definition returns a definition of the values' schema.
func definition(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(ChartDir(), "values.schema.json"))
	require.NoError(t, err)
	var schema struct {
		Definitions map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(text, &schema))
	return schema.Definitions[name].Properties
}

func TestEveryOptionOfPodsWorksForAllPodsAndForThoseOfOneComponent(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, slices.Collect(maps.Keys(definition(t, "podOptions"))), slices.Collect(maps.Keys(podOptions)), "each has its case")
	plain := evaluated(t, "{}").byComponent()
	require.ElementsMatch(t, components, slices.Collect(maps.Keys(plain)))
	all := map[string]string{}
	for option, o := range podOptions {
		all[option] = o.value
		for component, w := range plain {
			require.False(t, o.has(w), "%s: %s has it by default", option, component)
		}
	}
	for component, w := range evaluated(t, flow(all)).byComponent() {
		for option, o := range podOptions {
			require.True(t, o.has(w), "%s: of all pods, in %s", option, component)
		}
	}
	for _, own := range components {
		t.Run(own, func(t *testing.T) {
			t.Parallel()
			for component, w := range evaluated(t, own+": "+flow(all)).byComponent() {
				for option, o := range podOptions {
					require.Equal(t, component == own, o.has(w), "%s: %s's own, in %s", option, own, component)
				}
			}
		})
	}
}

// flow is a YAML map of values that are YAML.
func flow(values map[string]string) string {
	var entries []string
	for key, value := range values {
		entries = append(entries, key+": "+value)
	}
	return "{" + strings.Join(entries, ", ") + "}"
}

func TestAComponentsOwnOptionsGoOnTopOfThoseOfAllPods(t *testing.T) {
	t.Parallel()
	c := evaluated(t, `
podLabels: {team: payments, cost: low}
extraEnv: [{name: A, value: all}, {name: B, value: all}]
tolerations: [{key: a, operator: Exists}]
priorityClassName: low
podSecurityContext: null
edge:
  podLabels: {cost: high}
  extraEnv: [{name: B, value: own}, {name: GOMEMLIMIT, value: 1GiB}]
  tolerations: [{key: b, operator: Exists}]
  priorityClassName: high
  podSecurityContext: {runAsNonRoot: true}
`)
	edge, router := c.byComponent()["edge"], c.byComponent()["router"]
	require.Equal(t, "payments high", edge.pod.Labels["team"]+" "+edge.pod.Labels["cost"])
	require.Equal(t, "payments low", router.pod.Labels["team"]+" "+router.pod.Labels["cost"])
	_, variables := c.environment(edge.container())
	require.Equal(t, []string{"all", "own", "1GiB"}, []string{variables["A"], variables["B"], variables["GOMEMLIMIT"]})
	require.Len(t, edge.pod.Spec.Tolerations, 2)
	require.Equal(t, "high low", edge.pod.Spec.PriorityClassName+" "+router.pod.Spec.PriorityClassName)
	require.True(t, *edge.pod.Spec.SecurityContext.RunAsNonRoot)
	require.Nil(t, router.pod.Spec.SecurityContext)
}

// OpenShift gives each namespace its own range of user ids, and refuses pods
// that name another.
func TestUserAndGroupsCanBeLeftToTheCluster(t *testing.T) {
	t.Parallel()
	for _, w := range evaluated(t, "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}").workloads() {
		security := w.pod.Spec.SecurityContext
		require.Nil(t, security.RunAsUser, w.name)
		require.Nil(t, security.RunAsGroup, w.name)
		require.Nil(t, security.FSGroup, w.name)
		require.True(t, *security.RunAsNonRoot, w.name)
		require.False(t, *w.container().SecurityContext.AllowPrivilegeEscalation, w.name)
	}
}

func TestLabelsAndAnnotationsOfAllObjectsAreOnAllObjects(t *testing.T) {
	t.Parallel()
	plain := map[string][]string{}
	for name, d := range all[appsv1.Deployment](exampleWith(t, "everything", "{}")) {
		plain[name] = slices.Sorted(maps.Keys(d.Spec.Selector.MatchLabels))
	}
	for _, example := range []string{"evaluation", "production", "everything", "intake"} {
		c := exampleWith(t, example, `{commonLabels: {team: payments}, commonAnnotations: {reloader.stakater.com/auto: true}, namespaceOverride: elsewhere}`)
		for _, o := range c.objects {
			meta := o.(metav1.Object)
			require.Equal(t, "payments", meta.GetLabels()["team"], meta.GetName())
			require.Equal(t, "true", meta.GetAnnotations()["reloader.stakater.com/auto"], meta.GetName())
			require.Equal(t, "elsewhere", meta.GetNamespace(), meta.GetName())
		}
		for _, w := range c.workloads() {
			require.Equal(t, "payments", w.pod.Labels["team"], w.name)
			if w.selector != nil {
				require.NotContains(t, w.selector.MatchLabels, "team", "selectors cannot change")
			}
		}
	}
	for name, d := range all[appsv1.Deployment](exampleWith(t, "everything", "commonLabels: {team: payments}")) {
		require.Equal(t, plain[name], slices.Sorted(maps.Keys(d.Spec.Selector.MatchLabels)))
	}
}

func TestServiceAccountsCanBeOnesOwn(t *testing.T) {
	t.Parallel()
	accounts := func(change string) map[string]*corev1.ServiceAccount {
		return all[corev1.ServiceAccount](evaluated(t, change))
	}
	role := "eks.amazonaws.com/role-arn"
	for _, account := range accounts("serviceAccount: {annotations: {" + role + ": arn}}") {
		require.Equal(t, "arn", account.Annotations[role], account.Name)
	}
	for name, account := range accounts("bridge: {serviceAccount: {annotations: {" + role + ": arn}}}") {
		require.Equal(t, name == "gateway-daemon-gateway-bridge", account.Annotations[role] == "arn", name)
	}
	require.Equal(t, []string{"shared"}, slices.Collect(maps.Keys(accounts("serviceAccount: {name: shared}"))), "made once")
	require.Empty(t, accounts("serviceAccount: {create: false}"))
	for _, w := range evaluated(t, "{serviceAccount: {create: false}, edge: {serviceAccount: {name: mine, automount: true}}}").workloads() {
		want := "default"
		if w.component() == "edge" {
			want = "mine"
		}
		require.Equal(t, want, w.pod.Spec.ServiceAccountName, w.name)
		require.Equal(t, w.component() == "edge", *w.pod.Spec.AutomountServiceAccountToken, w.name)
	}
}

func TestImagesComeFromTheRegistryThatIsSet(t *testing.T) {
	t.Parallel()
	images := func(change string) map[string]string {
		found := map[string]string{}
		for component, w := range evaluated(t, change).byComponent() {
			found[component] = w.container().Image
		}
		return found
	}
	for component, image := range images("{image: {registry: ours.example}, global: {imageRegistry: mirror.example/hub/}}") {
		require.Regexp(t, "^mirror[.]example/hub/(daemon-gateway|nats|redis):", image, component)
	}
	digest := "sha256:" + strings.Repeat("0f", 32)
	found := images("{image: {registry: ours.example, digest: '" + digest + "'}, nats: {image: {registry: theirs.example, digest: '" + digest + "'}}}")
	require.Equal(t, "ours.example/daemon-gateway@"+digest, found["edge"])
	require.Equal(t, "ours.example/daemon-gateway@"+digest, found["test"])
	require.Equal(t, "theirs.example/nats@"+digest, found["nats"])
	require.Equal(t, "redis:8-alpine", found["redis"])
}

// What a release writes into Chart.yaml stands back behind all that values name.
func TestAReleasedChartTakesItsImageByDigest(t *testing.T) {
	t.Parallel()
	digest, another := "sha256:"+strings.Repeat("0f", 32), "sha256:"+strings.Repeat("1f", 32)
	for change, want := range map[string]string{
		"{}": "daemon-gateway@" + digest,
		"image: {repository: mirror.example/daemon-gateway}": "mirror.example/daemon-gateway@" + digest,
		"image: {registry: mirror.example}":                  "mirror.example/daemon-gateway@" + digest,
		"image: {tag: 1.2.3}":                                "daemon-gateway:1.2.3",
		"image: {digest: '" + another + "'}":                 "daemon-gateway@" + another,
	} {
		file := filepath.Join(t.TempDir(), "change.yaml")
		require.NoError(t, os.WriteFile(file, []byte(change), 0o600))
		values, err := Values("values-evaluation.yaml", file)
		require.NoError(t, err)
		for _, umbrella := range []bool{false, true} {
			given := values
			if umbrella {
				given = map[string]any{"daemon-gateway": values}
			}
			templates, err := Release{
				Name: "gateway", Namespace: "somewhere", Values: given, Umbrella: umbrella, Annotations: map[string]string{"daemon-gateway/image-digest": digest},
			}.Render()
			require.NoError(t, err)
			objects, err := Objects(templates)
			require.NoError(t, err)
			pods := (&installation{t: t, values: values, objects: objects}).byComponent()
			for _, component := range []string{"edge", "router", "bridge", "admin", "test"} {
				require.Equal(t, want, pods[component].container().Image, "%s: %s", component, change)
			}
			require.Equal(t, "redis:8-alpine", pods["redis"].container().Image)
		}
	}
}

func TestPullSecretsAreNamesOrObjectsAndAllPodsHaveThem(t *testing.T) {
	t.Parallel()
	c := evaluated(t, "{imagePullSecrets: [plain, {name: object}, shared], global: {imagePullSecrets: [{name: shared}]}}")
	for _, w := range c.workloads() {
		require.Equal(t, []corev1.LocalObjectReference{{Name: "shared"}, {Name: "plain"}, {Name: "object"}}, w.pod.Spec.ImagePullSecrets, w.name)
	}
}

// workloadOptions are the options of a component's Deployment, StatefulSet, Job
// or pod itself, which only sections of components have.
var workloadOptions = map[string]struct {
	value string
	has   func(c *installation, component string) bool
}{
	"labels": {`{a: b}`, func(c *installation, component string) bool {
		return c.workloadObject(component).GetLabels()["a"] == "b"
	}},
	"annotations": {`{a: b}`, func(c *installation, component string) bool {
		return c.workloadObject(component).GetAnnotations()["a"] == "b"
	}},
	"startupProbe": {`{failureThreshold: 999}`, func(c *installation, component string) bool {
		probe := c.byComponent()[component].container().StartupProbe
		return probe != nil && probe.FailureThreshold == 999 && (component == "redis" || probe.HTTPGet != nil)
	}},
	"livenessProbe": {`{periodSeconds: 77}`, func(c *installation, component string) bool {
		probe := c.byComponent()[component].container().LivenessProbe
		return probe.PeriodSeconds == 77 && (probe.HTTPGet != nil) != (probe.TCPSocket != nil)
	}},
	"readinessProbe": {`{exec: {command: ["true"]}}`, func(c *installation, component string) bool {
		probe := c.byComponent()[component].container().ReadinessProbe
		return probe.Exec != nil && probe.HTTPGet == nil && probe.TCPSocket == nil
	}},
	"lifecycle": {`{preStop: {exec: {command: ["true"]}}}`, func(c *installation, component string) bool {
		hooks := c.byComponent()[component].container().Lifecycle
		return hooks != nil && hooks.PreStop.Exec != nil && hooks.PreStop.Sleep == nil
	}},
	"strategy": {`{type: RollingUpdate, rollingUpdate: {maxSurge: 3}}`, func(c *installation, component string) bool {
		for _, d := range all[appsv1.Deployment](c) {
			if d.Labels["app.kubernetes.io/component"] == component && d.Spec.Strategy.RollingUpdate != nil {
				return d.Spec.Strategy.RollingUpdate.MaxSurge.IntVal == 3
			}
		}
		return false
	}},
	"terminationGracePeriodSeconds": {`999`, func(c *installation, component string) bool {
		seconds := c.byComponent()[component].pod.Spec.TerminationGracePeriodSeconds
		return seconds != nil && *seconds == 999
	}},
	"podDisruptionBudget": {`{minAvailable: 50%}`, func(c *installation, component string) bool {
		budget := all[policyv1.PodDisruptionBudget](c)["gateway-daemon-gateway-"+component]
		return budget != nil && budget.Spec.MinAvailable != nil && budget.Spec.MinAvailable.StrVal == "50%" && budget.Spec.MaxUnavailable == nil
	}},
}

// workloadObject is a component's Deployment, StatefulSet, Job or Pod.
func (c *installation) workloadObject(component string) metav1.Object {
	c.t.Helper()
	for _, o := range c.objects {
		kind := o.GetObjectKind().GroupVersionKind().Kind
		meta := o.(metav1.Object)
		if contains([]string{"Deployment", "StatefulSet", "Job", "CronJob", "Pod"}, kind) && meta.GetLabels()["app.kubernetes.io/component"] == component {
			return meta
		}
	}
	require.Fail(c.t, "no workload", component)
	return nil
}

func TestEveryOptionOfAWorkloadWorksWhereTheSchemaHasIt(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, slices.Collect(maps.Keys(definition(t, "workloadOptions"))), slices.Collect(maps.Keys(workloadOptions)), "each has its case")
	text, err := os.ReadFile(filepath.Join(ChartDir(), "values.schema.json"))
	require.NoError(t, err)
	var schema struct {
		Properties map[string]struct {
			Properties map[string]struct {
				Ref string `json:"$ref"`
			} `json:"properties"`
		} `json:"properties"`
	}
	require.NoError(t, yaml.Unmarshal(text, &schema))
	readme, err := os.ReadFile(filepath.Join(ChartDir(), "README.md"))
	require.NoError(t, err)
	for option := range workloadOptions {
		require.Contains(t, string(readme), "| `"+option+"` |")
	}
	plain := evaluated(t, "{}")
	for _, component := range components {
		t.Run(component, func(t *testing.T) {
			t.Parallel()
			given := map[string]string{}
			for option, o := range workloadOptions {
				if schema.Properties[component].Properties[option].Ref == "#/$defs/workloadOptions/properties/"+option {
					given[option] = o.value
					require.False(t, o.has(plain, component), "%s: it is so by default", option)
				}
			}
			require.GreaterOrEqual(t, len(given), 4)
			c := evaluated(t, component+": "+flow(given))
			for option := range given {
				require.True(t, workloadOptions[option].has(c, component), option)
			}
		})
	}
}

func TestABudgetCanBeLeftOut(t *testing.T) {
	t.Parallel()
	budgets := all[policyv1.PodDisruptionBudget](evaluated(t, "edge: {podDisruptionBudget: {enabled: false}}"))
	require.NotContains(t, budgets, "gateway-daemon-gateway-edge")
	require.Contains(t, budgets, "gateway-daemon-gateway-router")
}

// Kubernetes changes no Job, so another pod is another Job.
func TestAChangeOfTheJobsPodIsAnotherJob(t *testing.T) {
	t.Parallel()
	name := func(change string) string { return evaluated(t, change).workloadObject("admin").GetName() }
	names := map[string]string{}
	for _, change := range []string{"{}", "commonLabels: {a: b}", "extraEnv: [{name: A, value: b}]", "admin: {tolerations: [{operator: Exists}]}", "image: {tag: other}"} {
		require.NotContains(t, names, name(change), change)
		names[name(change)] = change
	}
}

func TestOtherObjectsAreInstalledAlong(t *testing.T) {
	t.Parallel()
	c := evaluated(t, `
extraObjects:
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: '{{ include "gateway.fullname" . }}-map'}
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: {{ .Release.Name }}-text}
`)
	require.Contains(t, all[corev1.ConfigMap](c), "gateway-daemon-gateway-map")
	require.Contains(t, all[corev1.ConfigMap](c), "gateway-text")
}
