package gatewayctl

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// The resolver alone is not real: a name with several addresses needs a DNS server.
func TestTheDoctorFindsPodsThatAreInNobodysGossip(t *testing.T) {
	t.Parallel()
	edge := operation.Member{Tier: operation.Edge, Node: "edge-1"}
	router := operation.Member{Tier: operation.Router, Node: "router-1"}
	const join = "gateway-edge-gossip:7946, gateway-router-gossip:7946,10.0.0.9:7946"
	for name, tt := range map[string]struct {
		behind map[string][]string // addresses by name
		want   string
	}{
		"all are members":         {map[string][]string{"gateway-edge-gossip": {"10.0.0.1"}, "gateway-router-gossip": {"10.0.0.2"}}, ""},
		"of two families":         {map[string][]string{"gateway-edge-gossip": {"10.0.0.1", "fd00::1"}, "gateway-router-gossip": {"10.0.0.2", "fd00::2"}}, ""},
		"the names cannot be had": {nil, ""},
		"one is none": {
			map[string][]string{"gateway-edge-gossip": {"10.0.0.1", "10.0.0.3"}, "gateway-router-gossip": {"10.0.0.2"}},
			"3 addresses stand behind gateway-edge-gossip, gateway-router-gossip, and it has 2 members",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := &examination{program: &program{timeout: time.Minute}, Examined: []string{"gossip"}, nodes: []examined{
				{node: node{Member: edge}, known: []operation.Member{router}, settings: map[string]string{"GOSSIP_JOIN": join}},
				{node: node{Member: operation.Member{Tier: operation.Bridge, Node: "bridge-1"}}},
			}}
			x.ofPods(t.Context(), func(_ context.Context, _, host string) (found []netip.Addr, err error) {
				if tt.behind[host] == nil {
					return nil, errors.New("no such host")
				}
				for _, a := range tt.behind[host] {
					found = append(found, netip.MustParseAddr(a))
				}
				return found, nil
			})
			if tt.want == "" {
				require.Empty(t, x.Symptoms)
				return
			}
			require.Len(t, x.Symptoms, 1)
			require.Equal(t, tt.want, x.Symptoms[0].Problem)
			require.True(t, x.Symptoms[0].Advice)
		})
	}
}
