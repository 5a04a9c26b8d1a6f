package check

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
)

// route is what an Ingress or an HTTPRoute makes of a host.
type route struct {
	object string
	hosts  []string
	paths  []string
	tier   string // whose pods stand behind it
	port   string // of these pods
}

// routes are all routes of an installation.
func (c *installation) routes() []route {
	c.t.Helper()
	var list []route
	for name, ingress := range all[networkingv1.Ingress](c) {
		require.Len(c.t, ingress.Spec.Rules, 1, name)
		r := route{object: "Ingress " + name, hosts: []string{ingress.Spec.Rules[0].Host}}
		for _, tls := range ingress.Spec.TLS {
			require.Equal(c.t, r.hosts, tls.Hosts, name)
		}
		for _, p := range ingress.Spec.Rules[0].HTTP.Paths {
			require.Equal(c.t, networkingv1.PathTypeExact, *p.PathType, name)
			r.paths = append(r.paths, p.Path)
			r.tier, r.port = c.behind(p.Backend.Service.Name, func(port corev1.ServicePort) bool { return port.Name == p.Backend.Service.Port.Name })
		}
		list = append(list, r)
	}
	for name, object := range all[gatewayapi.HTTPRoute](c) {
		require.Len(c.t, object.Spec.Rules, 1, name)
		rule := object.Spec.Rules[0]
		r := route{object: "HTTPRoute " + name}
		for _, host := range object.Spec.Hostnames {
			r.hosts = append(r.hosts, string(host))
		}
		for _, match := range rule.Matches {
			require.Equal(c.t, gatewayapi.PathMatchExact, *match.Path.Type, name)
			r.paths = append(r.paths, *match.Path.Value)
		}
		backend := rule.BackendRefs[0]
		r.tier, r.port = c.behind(string(backend.Name), func(port corev1.ServicePort) bool { return port.Port == int32(*backend.Port) })
		if r.tier == "edge" {
			require.EqualValues(c.t, "0s", *rule.Timeouts.Request, "a WebSocket has no end that is known")
		}
		list = append(list, r)
	}
	return list
}

// behind returns the tier that a Service leads to by the port that is meant.
func (c *installation) behind(service string, meant func(corev1.ServicePort) bool) (tier, port string) {
	c.t.Helper()
	found := all[corev1.Service](c)[service]
	require.NotNil(c.t, found, service)
	pods := c.matching(&metav1.LabelSelector{MatchLabels: found.Spec.Selector})
	require.Len(c.t, pods, 1, service)
	i := slices.IndexFunc(found.Spec.Ports, meant)
	require.GreaterOrEqual(c.t, i, 0, service)
	return pods[0].component(), found.Spec.Ports[i].TargetPort.StrVal
}

func TestRoutesLeadOnlyDaemonsToTheEdgesAndOnlyBackendsToTheBridges(t *testing.T) {
	t.Parallel()
	events := []string{"/v1/events"}
	paths := map[string]map[string][]string{
		"production": {"edge": {"/daemon/ws", "/api/daemon/ws", "/api/daemon/events"}},
		"everything": {"edge": {"/sockets", "/api/daemon/ws", "/api/daemon/events"}, "bridge": events},
	}
	ports := map[string]string{"edge": "daemons", "bridge": "intake"}
	hosts := map[string]string{"edge": "gateway.example.com", "bridge": "events.example.com"}
	eachExample(t, func(t *testing.T, c *installation) {
		found := map[string]bool{}
		for _, r := range c.routes() {
			found[r.tier] = true
			require.Equal(t, paths[c.example][r.tier], r.paths, r.object)
			require.Equal(t, ports[r.tier], r.port, r.object)
			require.Equal(t, []string{hosts[r.tier]}, r.hosts, r.object)
		}
		require.ElementsMatch(t, slices.Collect(maps.Keys(paths[c.example])), slices.Collect(maps.Keys(found)))
	})
}

// What nobody asked for, nobody can reach.
func TestWithoutIntakeBridgesHaveNoPortButTheirAdminPort(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		intake, _ := c.values["intake"].(map[string]any)
		var services []string
		for name, service := range all[corev1.Service](c) {
			if service.Spec.Selector["app.kubernetes.io/component"] == "bridge" && service.Labels["daemon-gateway/admin"] == "" {
				services = append(services, name)
			}
		}
		bridge := c.tiers()["bridge"].Spec.Template.Spec.Containers[0]
		_, settings := c.environment(bridge)
		if intake["enabled"] == true {
			require.Len(t, services, 1)
			require.Len(t, bridge.Ports, 2)
			require.Equal(t, ":8081", settings["HTTP_ADDR"])
			require.EqualValues(t, 8081, bridge.Ports[slices.IndexFunc(bridge.Ports, func(p corev1.ContainerPort) bool { return p.Name == "intake" })].ContainerPort)
		} else {
			require.Empty(t, services)
			require.Len(t, bridge.Ports, 1)
			require.NotContains(t, settings, "API_KEYS_FILE")
		}
	})
}
