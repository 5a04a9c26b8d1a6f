package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
)

// platform is production with the example for a platform. What the example
// installs along, of kinds that no package here knows, is returned by itself.
func platform(t *testing.T, name string) (c *installation, along []object) {
	t.Helper()
	release := Release{Name: "gateway", Namespace: "somewhere"}
	files := []string{"values-production.yaml", filepath.Join("examples", name+".yaml")}
	if name == "umbrella" {
		release.Umbrella, files = true, files[1:]
	}
	var err error
	release.Values, err = Values(files...)
	require.NoError(t, err)
	templates, err := release.Render()
	require.NoError(t, err, name)
	var known []Template
	for _, template := range templates {
		extra := strings.HasSuffix(template.Name, "/extra.yaml")
		if strings.HasSuffix(template.Name, ".txt") {
			continue
		}
		documents, err := Documents(template.Text)
		require.NoError(t, err)
		for _, document := range documents {
			var o object
			require.NoError(t, yaml.Unmarshal([]byte(document), &o))
			switch {
			case extra:
				along = append(along, o)
			case o["kind"] != "ScaledObject": // TestKEDACanTakeThePlaceOfTheChartsAutoscaler reads those
				known = append(known, Template{template.Name, document})
			}
		}
	}
	objects, err := Objects(known)
	require.NoError(t, err, name)
	return &installation{t: t, objects: objects}, along
}

// requireTrusted checks that edges believe whoever stands before them: else all
// daemons share an address.
func (c *installation) requireTrusted() {
	c.t.Helper()
	_, settings := c.environment(c.byComponent()["edge"].container())
	require.NotEmpty(c.t, settings["TRUSTED_PROXIES"])
}

// Reports: goharbor/harbor-helm#874, grafana/loki#21650.
func TestTheExamplesOfPlatformsAreWhatThesePlatformsTake(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Glob(filepath.Join(ChartDir(), "examples", "*.yaml"))
	require.NoError(t, err)
	claims := map[string]func(t *testing.T, c *installation, along []object){
		"openshift": func(t *testing.T, c *installation, _ []object) {
			for _, w := range c.workloads() {
				require.Nil(t, w.pod.Spec.SecurityContext.RunAsUser, w.name)
				require.Nil(t, w.pod.Spec.SecurityContext.RunAsGroup, w.name)
				require.Nil(t, w.pod.Spec.SecurityContext.FSGroup, w.name)
				require.True(t, *w.pod.Spec.SecurityContext.RunAsNonRoot, w.name)
				dns := peer{pod: map[string]string{}, namespace: map[string]string{"kubernetes.io/metadata.name": "openshift-dns"}}
				require.True(t, c.reaches(w, "", 5353, corev1.ProtocolUDP, dns), w.name)
			}
		},
		"eks": func(t *testing.T, c *installation, _ []object) {
			service := all[corev1.Service](c)["gateway-daemon-gateway-edge"].Spec
			require.Equal(t, "service.k8s.aws/nlb", *service.LoadBalancerClass)
			require.False(t, *service.AllocateLoadBalancerNodePorts)
			require.Contains(t, all[corev1.ServiceAccount](c)["gateway-daemon-gateway-bridge"].Annotations, "eks.amazonaws.com/role-arn")
			for _, w := range c.workloads() {
				require.Regexp(t, "^123456789012[.]dkr[.]ecr", w.container().Image, w.name)
			}
			require.True(t, c.accepts(c.byComponent()["edge"], "admin", corev1.ProtocolTCP, outside), "the load balancer's checks")
		},
		"gke": func(t *testing.T, c *installation, along []object) {
			route := all[gatewayapi.HTTPRoute](c)["gateway-daemon-gateway-edge"]
			require.Nil(t, route.Spec.Rules[0].Timeouts)
			require.Len(t, along, 2)
			for _, policy := range along {
				target := policy["spec"].(map[string]any)["targetRef"].(map[string]any)
				require.Contains(t, all[corev1.Service](c), target["name"])
			}
			for name, account := range all[corev1.ServiceAccount](c) {
				require.Contains(t, account.Annotations, "iam.gke.io/gcp-service-account", name)
			}
		},
		"argo-cd": func(t *testing.T, c *installation, along []object) {
			require.Empty(t, all[corev1.Secret](c))
			require.Len(t, along, 1)
			again, _ := platform(t, "argo-cd")
			require.Equal(t, again.objects, c.objects)
			require.Nil(t, c.tiers()["edge"].Spec.Replicas)
		},
		"umbrella": func(t *testing.T, c *installation, _ []object) {
			for _, w := range c.workloads() {
				require.Equal(t, "registry.example.com/daemon-gateway:0.1.0", w.container().Image)
				require.Equal(t, []corev1.LocalObjectReference{{Name: "registry"}}, w.pod.Spec.ImagePullSecrets)
			}
			require.Contains(t, all[corev1.Service](c), "gateway-edge")
		},
		"autoscaling": func(t *testing.T, c *installation, along []object) {
			require.Len(t, along, 1)
			require.NotContains(t, all[autoscalingv2.HorizontalPodAutoscaler](c), "gateway-daemon-gateway-edge", "it is KEDA's")
			policy := along[0]["spec"].(map[string]any)["resourcePolicy"].(map[string]any)["containerPolicies"].([]any)[0].(map[string]any)
			require.Equal(t, []any{"memory"}, policy["controlledResources"], "CPU is what the other goes by")
			require.Equal(t, c.byComponent()["edge"].container().Name, policy["containerName"])
		},
		"haproxy": func(t *testing.T, c *installation, _ []object) {
			ingress := all[networkingv1.Ingress](c)["gateway-daemon-gateway-edge"]
			require.Equal(t, "haproxy", *ingress.Spec.IngressClassName)
			text := ingress.Annotations["haproxy.org/backend-config-snippet"]
			file := filepath.Join(t.TempDir(), "haproxy.cfg")
			config := "defaults\n mode http\n timeout client 1m\n timeout server 1m\n timeout connect 3s\n timeout tunnel " + ingress.Annotations["haproxy.org/timeout-tunnel"] +
				"\nfrontend daemons\n bind 127.0.0.1:8080\n default_backend edges\nbackend edges\n balance " + ingress.Annotations["haproxy.org/load-balance"] +
				"\n" + text + "\n server edge-1 127.0.0.1:8081\n"
			require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
			output, err := exec.CommandContext(t.Context(), "haproxy", "-c", "-f", file).CombinedOutput()
			require.NoError(t, err, "%s", output)
			c.requireTrusted()
		},
		"traefik": func(t *testing.T, c *installation, _ []object) {
			require.Equal(t, "traefik", *all[networkingv1.Ingress](c)["gateway-daemon-gateway-edge"].Spec.IngressClassName)
			require.EqualValues(t, 20, c.byComponent()["edge"].container().Lifecycle.PreStop.Sleep.Seconds)
			c.requireTrusted()
		},
		"alb": func(t *testing.T, c *installation, _ []object) {
			ingress := all[networkingv1.Ingress](c)["gateway-daemon-gateway-edge"]
			require.Empty(t, ingress.Spec.TLS, "the certificate is ACM's")
			require.True(t, c.accepts(c.byComponent()["edge"], "admin", corev1.ProtocolTCP, outside), "the load balancer's checks")
			_, delay, found := strings.Cut(ingress.Annotations["alb.ingress.kubernetes.io/target-group-attributes"], "deregistration_delay.timeout_seconds=")
			require.True(t, found)
			seconds, err := strconv.ParseInt(delay, 10, 64)
			require.NoError(t, err)
			require.GreaterOrEqual(t, seconds, *c.byComponent()["edge"].pod.Spec.TerminationGracePeriodSeconds, "connections of an edge that drains are cut after that")
			c.requireTrusted()
		},
		"gateway-api": func(t *testing.T, c *installation, _ []object) {
			require.Empty(t, all[networkingv1.Ingress](c))
			hosts := map[string]string{}
			for _, r := range c.routes() {
				hosts[r.tier] = r.hosts[0]
			}
			require.Equal(t, map[string]string{"edge": "gateway.example.com", "bridge": "events.example.com"}, hosts)
			require.Equal(t, "kubernetes.io/ws", *all[corev1.Service](c)["gateway-daemon-gateway-edge"].Spec.Ports[0].AppProtocol)
			c.requireTrusted()
		},
		"dual-stack": func(t *testing.T, c *installation, _ []object) {
			for name, service := range all[corev1.Service](c) {
				want := corev1.IPFamilyPolicyPreferDualStack
				if name == "gateway-daemon-gateway-edge" {
					want = corev1.IPFamilyPolicyRequireDualStack
				}
				require.Equal(t, want, *service.Spec.IPFamilyPolicy, name)
				require.Equal(t, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}, service.Spec.IPFamilies, name)
			}
			require.NotEmpty(t, all[networkingv1.NetworkPolicy](c))
			for _, w := range c.workloads() {
				_, settings := c.environment(w.container())
				for _, name := range []string{"ADMIN_ADDR", "GOSSIP_ADDR", "HTTP_ADDR"} {
					require.Regexp(t, `^$|^(0\.0\.0\.0)?:\d+$`, settings[name], "Go listens on both families there")
				}
			}
		},
	}
	claims["opentelemetry"] = func(t *testing.T, c *installation, _ []object) {
		for name := range c.tiers() {
			w := c.byComponent()[name]
			_, settings := c.environment(w.container())
			require.Equal(t, "http://otel-collector.observability:4318", settings["OTEL_EXPORTER_OTLP_ENDPOINT"], name)
			require.Contains(t, settings["OTEL_RESOURCE_ATTRIBUTES"], "k8s.pod.name=", name)
			require.Contains(t, c.files(w), settings["OTEL_EXPORTER_OTLP_HEADERS_FILE"], name)
			collector := peer{pod: map[string]string{}, namespace: map[string]string{"kubernetes.io/metadata.name": "observability"}}
			require.True(t, c.reaches(w, "", 4318, corev1.ProtocolTCP, collector), name)
		}
	}
	require.Len(t, claims, len(examples), "each example has its claims")
	for _, file := range examples {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, along := platform(t, name)
			claims[name](t, c, along)
		})
	}
}
