package check

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// peer is somebody at the other end of a connection: a pod here by its labels,
// one in another namespace, or an address outside.
type peer struct {
	pod       labels.Set
	namespace labels.Set // nil: the same namespace, or none
}

var outside = peer{}

func selects(t *testing.T, selector *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	return s.Matches(set)
}

// among reports whether a rule's peers have somebody; none listed are all.
func among(t *testing.T, peers []networkingv1.NetworkPolicyPeer, who peer) bool {
	t.Helper()
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		switch {
		case p.IPBlock != nil:
			return who.pod == nil && who.namespace == nil
		case p.NamespaceSelector != nil:
			return who.namespace != nil && selects(t, p.NamespaceSelector, who.namespace)
		default:
			return who.pod != nil && who.namespace == nil && selects(t, p.PodSelector, who.pod)
		}
	})
}

// onPort reports whether a rule's ports have one of a container.
func onPort(ports []networkingv1.NetworkPolicyPort, name string, number int32, protocol corev1.Protocol) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		return (p.Protocol == nil && protocol == corev1.ProtocolTCP || p.Protocol != nil && *p.Protocol == protocol) &&
			(p.Port.StrVal != "" && p.Port.StrVal == name || p.Port.IntVal == number)
	})
}

// policyOf returns the one policy of a workload.
func (c *installation) policyOf(w workload) *networkingv1.NetworkPolicy {
	c.t.Helper()
	for _, policy := range all[networkingv1.NetworkPolicy](c) {
		if selects(c.t, &policy.Spec.PodSelector, labelsOf(w)) {
			require.ElementsMatch(c.t, []networkingv1.PolicyType{"Ingress", "Egress"}, policy.Spec.PolicyTypes, "what is not named is allowed")
			return policy
		}
	}
	require.Fail(c.t, "no policy", w.name)
	return nil
}

// accepts reports whether a workload lets somebody in on one of its ports.
func (c *installation) accepts(w workload, port string, protocol corev1.Protocol, from peer) bool {
	number := int32(-1)
	for _, p := range w.container().Ports {
		if p.Name == port {
			number = p.ContainerPort
		}
	}
	return slices.ContainsFunc(c.policyOf(w).Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
		return onPort(r.Ports, port, number, protocol) && among(c.t, r.From, from)
	})
}

// reaches reports whether a workload is let out to somebody's port.
func (c *installation) reaches(w workload, name string, number int32, protocol corev1.Protocol, to peer) bool {
	return slices.ContainsFunc(c.policyOf(w).Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
		return onPort(r.Ports, name, number, protocol) && among(c.t, r.To, to)
	})
}

func TestPoliciesAllowWhatEachTierNeedsAndNothingElse(t *testing.T) {
	t.Parallel()
	const tcp, udp = corev1.ProtocolTCP, corev1.ProtocolUDP
	eachExample(t, func(t *testing.T, c *installation) {
		if len(all[networkingv1.NetworkPolicy](c)) == 0 {
			t.Log("switched off")
			return
		}
		stranger := peer{pod: labels.Set{"app": "other"}}
		dns := peer{pod: labels.Set{"k8s-app": "kube-dns"}, namespace: labels.Set{"kubernetes.io/metadata.name": "kube-system"}}
		for _, w := range c.gateways() {
			require.True(t, c.reaches(w, "dns", 53, udp, dns) && c.reaches(w, "dns-tcp", 53, tcp, dns), "%s asks DNS", w.name)
			if w.component() == "test" {
				continue // it goes through the load balancer, wherever that is
			}
			_, settings := c.environment(w.container())
			gossips := settings["GOSSIP_JOIN"] != ""
			for _, other := range c.gateways() {
				both := gossips && (other.component() == "edge" || other.component() == "router")
				for protocol, port := range map[corev1.Protocol]string{tcp: "gossip", udp: "gossip-udp"} {
					to := peer{pod: labelsOf(other)}
					require.Equal(t, both, c.reaches(w, port, 7946, protocol, to), "%s gossips with %s by %s", w.name, other.name, protocol)
					require.Equal(t, both, c.accepts(other, port, protocol, peer{pod: labelsOf(w)}), "%s gossips with %s by %s", w.name, other.name, protocol)
				}
			}
			require.False(t, c.accepts(w, "gossip", tcp, stranger), w.name)
			require.False(t, c.accepts(w, "admin", tcp, stranger), "%s: a pod beside it may not scrape", w.name)
		}
	})
}

// Where a tier's settings point to, its policy lets it go, and its database is
// nobody else's.
func TestPoliciesFollowTheServersThatAreSet(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]map[string]map[int32]bool{
		"production": {
			"edge": {4222: true, 5432: true, 6379: false}, "router": {4222: true, 5432: true, 6379: false}, "bridge": {4222: true, 5432: true, 6379: true},
		},
		"everything": {
			"edge": {4222: true, 5432: true, 6379: false}, "router": {4222: true, 5432: true, 6379: false}, "bridge": {4222: true, 5432: true},
		},
		"evaluation": {"edge": {4222: false, 5432: false}, "router": {4222: false, 5432: false}, "bridge": {4222: false, 5432: false, 6379: false}},
	} {
		values, err := Values(examples()[name]...)
		require.NoError(t, err)
		c := install(t, values)
		for _, w := range c.workloads() {
			for port, allowed := range want[w.component()] {
				require.Equal(t, allowed, c.reaches(w, "", port, corev1.ProtocolTCP, outside), "%s: %s to port %d outside", name, w.name, port)
			}
		}
	}
	values, err := Values("values-evaluation.yaml")
	require.NoError(t, err)
	c := install(t, values)
	servers := map[string]workload{}
	for _, w := range c.workloads() {
		servers[w.component()] = w
	}
	for server, clients := range map[string][]string{"nats": {"edge", "router", "bridge", "admin"}, "redis": {"bridge", "test"}} {
		port := servers[server].container().Ports[0]
		for _, w := range c.gateways() {
			to := contains(clients, w.component())
			require.Equal(t, to, c.reaches(w, port.Name, port.ContainerPort, corev1.ProtocolTCP, peer{pod: labelsOf(servers[server])}), "%s to %s", w.name, server)
			require.Equal(t, to, c.accepts(servers[server], port.Name, corev1.ProtocolTCP, peer{pod: labelsOf(w)}), "%s to %s", w.name, server)
		}
	}
}

// Every URL and address of the tiers' settings is on a port that they reach.
func TestTheDefaultPortsOfPoliciesAreThoseOfTheSettings(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		if len(all[networkingv1.NetworkPolicy](c)) == 0 {
			return
		}
		for _, w := range c.gateways() {
			_, settings := c.environment(w.container())
			for _, address := range strings.Split(settings["NATS_URL"]+","+settings["REDIS_ADDRS"], ",") {
				if _, rest, isURL := strings.Cut(address, "://"); isURL {
					address = rest
				}
				parsed, err := url.Parse("any://" + address)
				require.NoError(t, err)
				if port, err := strconv.Atoi(parsed.Port()); err == nil {
					to := peer{namespace: labels.Set{"kubernetes.io/metadata.name": "redis"}}
					reached := c.reaches(w, "", int32(port), corev1.ProtocolTCP, outside) || c.reaches(w, "", int32(port), corev1.ProtocolTCP, to)
					require.True(t, reached, fmt.Sprintf("%s to %s", w.name, address))
				}
			}
		}
	})
}

func TestOnlyThoseWhoAreNamedGetIn(t *testing.T) {
	t.Parallel()
	named := func(namespace string) peer {
		return peer{pod: labels.Set{}, namespace: labels.Set{"kubernetes.io/metadata.name": namespace}}
	}
	for name, flows := range map[string]map[string]bool{
		"production": {
			"edge daemons ingress-nginx": true, "edge daemons other": false, "edge daemons outside": false,
			"edge admin monitoring": true, "router admin monitoring": true, "bridge admin monitoring": true, "edge admin other": false, "edge admin outside": false,
		},
		"everything": {"edge daemons outside": true, "edge daemons other": true, "bridge intake outside": true, "bridge admin outside": false},
		"intake":     {"bridge intake backends": true, "bridge intake other": false, "bridge intake outside": false, "edge daemons outside": true},
	} {
		values, err := Values(examples()[name]...)
		require.NoError(t, err)
		c := install(t, values)
		for flow, allowed := range flows {
			words := strings.Fields(flow)
			from := named(words[2])
			if words[2] == "outside" {
				from = outside
			}
			workloads := c.workloads()
			w := workloads[slices.IndexFunc(workloads, func(w workload) bool { return w.component() == words[0] })]
			require.Equal(t, allowed, c.accepts(w, words[1], corev1.ProtocolTCP, from), "%s: %s", name, flow)
		}
	}
}
