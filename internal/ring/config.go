package ring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/hashicorp/memberlist"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config is where and with whom a node gossips.
type Config struct {
	ClusterName         string            `name:"cluster-name" help:"Name of the cluster; gossip of another cluster is refused." default:"neolith" group:"Cluster"`
	GossipAddr          string            `name:"gossip-addr" help:"IP address and port to gossip on, TCP and UDP; port 0 takes a free one." default:"0.0.0.0:7946" group:"Cluster"`
	GossipAdvertiseAddr string            `name:"gossip-advertise-addr" help:"IP address, or IP address and port, that other members reach this node by; detected when not given." group:"Cluster"`
	GossipJoin          []string          `name:"gossip-join" help:"Members to join, a list of host:port; a name with many addresses joins all of them. Repeated every 30 s. Not given: wait to be joined." group:"Cluster"`
	GossipKeys          []settings.Secret `name:"gossip-keys" unless:"GOSSIP_ADDR is a loopback address, or GOSSIP_INSECURE is set" help:"Keys of 16, 24 or 32 bytes in base64: the first encrypts, all decrypt. To rotate, add the new key at the end everywhere, then move it to the front, then remove the old one." group:"Cluster"`
	DirectoryMaxBytes   settings.ByteSize `name:"directory-max-bytes" help:"Memory that what other edges say of their connections may take here, 280 bytes or so for each daemon of the cluster; what all edges hold, and the fullest of them once more, has to find room: 900,000 daemons or so in 256 MiB. An edge that finds none is not known, and events for its daemons come up to NET_INTERVAL later." default:"256MiB" min:"1MiB" group:"Cluster"`
	GossipInsecure      bool              `name:"gossip-insecure" help:"Allow gossip without a key on an address other than loopback." group:"Cluster"`
}

// Validate reports every mistake.
func (c Config) Validate(report func(setting, problem string)) {
	if n := len(c.ClusterName); n == 0 || n > memberlist.LabelMaxSize {
		report("CLUSTER_NAME", fmt.Sprintf("expected 1 to %d bytes", memberlist.LabelMaxSize))
	}
	bind, err := parseBind(c.GossipAddr)
	if err != nil {
		report("GOSSIP_ADDR", "expected IP address and port such as 0.0.0.0:7946 or 127.0.0.1:0")
	}
	if _, err := parseAdvertise(c.GossipAdvertiseAddr, bind.Port()); err != nil {
		report("GOSSIP_ADVERTISE_ADDR", "expected an IP address that others can reach, with or without port, such as 10.0.0.7 or 10.0.0.7:7946")
	}
	for _, address := range c.GossipJoin {
		if _, _, err := splitJoin(address); err != nil {
			report("GOSSIP_JOIN", "expected a list of host:port such as gateway-gossip:7946,10.0.0.7:7946")
			break
		}
	}
	if _, err := parseKeys(c.GossipKeys); err != nil {
		report("GOSSIP_KEYS", "expected a list of keys of 16, 24 or 32 bytes in base64")
	}
	if len(c.GossipKeys) == 0 && !c.GossipInsecure && bind.IsValid() && !bind.Addr().IsLoopback() {
		report("GOSSIP_KEYS", "expected a key, because "+c.GossipAddr+" is not a loopback address; GOSSIP_INSECURE allows gossip without one")
	}
}

// parseBind reads GOSSIP_ADDR. Only IP addresses: memberlist takes a name that
// it cannot parse for "all interfaces".
func parseBind(text string) (netip.AddrPort, error) {
	host, port, err := splitHostPort(text)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ip, port), nil
}

// parseAdvertise reads GOSSIP_ADVERTISE_ADDR, whose port may be missing. It
// returns the zero AddrPort for "".
func parseAdvertise(text string, port uint16) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPort{}, nil
	}
	address, err := netip.ParseAddrPort(text)
	if ip, ipErr := netip.ParseAddr(text); ipErr == nil {
		address, err = netip.AddrPortFrom(ip, port), nil
	}
	if err == nil && address.Addr().IsUnspecified() {
		err = errors.New("nobody can be reached at an unspecified address")
	}
	return address, err
}

// splitJoin reads an entry of GOSSIP_JOIN.
func splitJoin(text string) (host string, port uint16, err error) {
	host, port, err = splitHostPort(text)
	if err == nil && (host == "" || port == 0) {
		err = errors.New("host or port is missing")
	}
	return host, port, err
}

func splitHostPort(text string) (string, uint16, error) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	return host, uint16(port), err
}

// parseKeys returns the key ring, or nil when there are no keys. The errors do
// not repeat the keys.
func parseKeys(encoded []settings.Secret) (*memberlist.Keyring, error) {
	var keys [][]byte
	for i, text := range encoded {
		key, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			return nil, fmt.Errorf("gossip key %d is not base64", i+1)
		}
		if err := memberlist.ValidateKey(key); err != nil {
			return nil, fmt.Errorf("gossip key %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return memberlist.NewKeyring(keys[1:], keys[0])
}
