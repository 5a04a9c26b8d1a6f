package gatewayctl

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// resolver looks up what stands behind a name.
type resolver func(ctx context.Context, network, host string) ([]netip.Addr, error)

// ofPods compares what stands behind the names of GOSSIP_JOIN with who is a member. On
// Kubernetes these are the pods of headless services, unready ones as well: one that
// comes to nothing is in nobody's gossip, and answers nobody.
func (x *examination) ofPods(ctx context.Context, lookup resolver) {
	ctx, cancel := context.WithTimeout(ctx, x.program.timeout)
	defer cancel()
	members := map[operation.Member]bool{}
	var names []string
	for _, n := range x.nodes {
		if n.Tier == operation.Bridge {
			continue // they have no gossip
		}
		members[n.Member] = true
		for _, m := range n.known {
			members[m] = true
		}
		names = append(names, joined(n.settings["GOSSIP_JOIN"])...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if pods := behind(ctx, names, lookup); pods > len(members) {
		x.advise("gossip", fmt.Sprintf("%d addresses stand behind %s, and it has %d members", pods, strings.Join(names, ", "), len(members)),
			"Somebody runs there and is no member: a pod that restarts again and again (kubectl get pods), whose GOSSIP_KEYS or CLUSTER_NAME are others, or that the "+
				"others do not reach. During an upgrade that is normal for a moment.")
	}
}

// joined are the names in a list of host:port; addresses stand for themselves alone, and
// need not all be listed.
func joined(list string) (names []string) {
	for entry := range strings.SplitSeq(list, ",") {
		host, _, err := net.SplitHostPort(strings.TrimSpace(entry))
		if _, notName := netip.ParseAddr(host); err == nil && host != "" && notName != nil {
			names = append(names, host)
		}
	}
	return names
}

// behind counts the addresses behind names. A pod may have one of each family. What cannot
// be looked up from here, such as on an operator's own machine, counts for nothing.
func behind(ctx context.Context, names []string, lookup resolver) int {
	v4, v6 := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, name := range names {
		found, _ := lookup(ctx, "ip", name)
		for _, a := range found {
			if a = a.Unmap(); a.Is4() {
				v4[a] = true
			} else {
				v6[a] = true
			}
		}
	}
	return max(len(v4), len(v6))
}
