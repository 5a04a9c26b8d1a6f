package check

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
)

func TestAServiceIsWhatALoadBalancerNeeds(t *testing.T) {
	t.Parallel()
	c := exampleWith(t, "intake", `
service: {ipFamilyPolicy: PreferDualStack}
edge:
  service:
    type: LoadBalancer
    port: 443
    nodePort: 30123
    appProtocol: kubernetes.io/wss
    labels: {a: b}
    loadBalancerClass: service.k8s.aws/nlb
    loadBalancerIP: 192.0.2.7
    loadBalancerSourceRanges: [192.0.2.0/24, "2001:db8::/32"]
    allocateLoadBalancerNodePorts: false
    externalTrafficPolicy: Local
    healthCheckNodePort: 30124
    ipFamilies: [IPv6, IPv4]
intake: {service: {type: NodePort, nodePort: 30125, ipFamilyPolicy: SingleStack}}
`)
	services := all[corev1.Service](c)
	edge := services["gateway-daemon-gateway-edge"]
	require.Equal(t, "b", edge.Labels["a"])
	spec := edge.Spec
	require.Equal(t, corev1.ServiceTypeLoadBalancer, spec.Type)
	require.Equal(t, "service.k8s.aws/nlb", *spec.LoadBalancerClass)
	require.Equal(t, "192.0.2.7", spec.LoadBalancerIP)
	require.Equal(t, []string{"192.0.2.0/24", "2001:db8::/32"}, spec.LoadBalancerSourceRanges)
	require.False(t, *spec.AllocateLoadBalancerNodePorts)
	require.EqualValues(t, 30124, spec.HealthCheckNodePort)
	require.Equal(t, corev1.ServiceExternalTrafficPolicyLocal, spec.ExternalTrafficPolicy)
	require.Equal(t, []corev1.IPFamily{"IPv6", "IPv4"}, spec.IPFamilies)
	require.EqualValues(t, 443, spec.Ports[0].Port)
	require.EqualValues(t, 30123, spec.Ports[0].NodePort)
	require.Equal(t, "kubernetes.io/wss", *spec.Ports[0].AppProtocol)
	intake := services["gateway-daemon-gateway-intake"].Spec
	require.EqualValues(t, 30125, intake.Ports[0].NodePort)
	require.Equal(t, "http", *intake.Ports[0].AppProtocol)
	for name, service := range services {
		want := corev1.IPFamilyPolicyPreferDualStack
		if name == "gateway-daemon-gateway-intake" {
			want = corev1.IPFamilyPolicySingleStack
		}
		require.Equal(t, want, *service.Spec.IPFamilyPolicy, name)
	}
}

func TestEachHostOfAnIngressHasItsCertificate(t *testing.T) {
	t.Parallel()
	hosts := "extraHosts: [b.example, {host: c.example, tlsSecret: c-tls}, {host: plain.example}]"
	c := exampleWith(t, "intake", "{ingress: {enabled: true, host: a.example, tlsSecret: tls, "+hosts+"}, intake: {ingress: {enabled: true, host: e.example, extraHosts: [f.example]}}}")
	ingress := all[networkingv1.Ingress](c)["gateway-daemon-gateway-edge"]
	certificates := map[string][]string{}
	for _, tls := range ingress.Spec.TLS {
		certificates[tls.SecretName] = tls.Hosts
	}
	require.Equal(t, map[string][]string{"tls": {"a.example", "b.example"}, "c-tls": {"c.example"}}, certificates)
	var names []string
	for _, rule := range ingress.Spec.Rules {
		names = append(names, rule.Host)
		require.Equal(t, ingress.Spec.Rules[0].HTTP, rule.HTTP, "the same paths")
	}
	require.Equal(t, []string{"a.example", "b.example", "c.example", "plain.example"}, names)
	require.Len(t, all[networkingv1.Ingress](c)["gateway-daemon-gateway-intake"].Spec.Rules, 2)
	require.Contains(t, refused(t, "{ingress: {enabled: true, host: a, extraHosts: [b]}, intake: {enabled: true, existingSecret: a, ingress: {enabled: true, host: c, extraHosts: [{host: b}]}}}"),
		"intake.ingress.host must be another host than ingress.host")
}

func TestRoutesHaveTheTimeoutsThatAreSet(t *testing.T) {
	t.Parallel()
	route := func(timeouts string) *gatewayapi.HTTPRoute {
		c := exampleWith(t, "minimal", "gateway: {enabled: true, parentRefs: [{name: public}], labels: {a: b}, annotations: {c: d}"+timeouts+"}")
		return all[gatewayapi.HTTPRoute](c)["gateway-daemon-gateway-edge"]
	}
	plain := route("")
	require.Equal(t, "b d", plain.Labels["a"]+" "+plain.Annotations["c"])
	require.EqualValues(t, "0s", *plain.Spec.Rules[0].Timeouts.Request)
	require.EqualValues(t, "24h", *route(", timeouts: {request: 24h}").Spec.Rules[0].Timeouts.Request)
	require.Nil(t, route(", timeouts: null").Spec.Rules[0].Timeouts)
}
