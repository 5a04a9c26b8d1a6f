package ring

// Config is where and with whom a node gossips.
type Config struct {
	ClusterName         string   `help:"Name of the cluster; gossip of another cluster is refused." default:"neolith" group:"Cluster"`
	GossipAddr          string   `help:"IP address and port to gossip on, TCP and UDP; port 0 takes a free one." default:"0.0.0.0:7946" group:"Cluster"`
	GossipAdvertiseAddr string   `help:"IP address, or IP address and port, that other members reach this node by; detected when empty." group:"Cluster"`
	GossipJoin          []string `help:"Members to join, a list of host:port; a name with many addresses joins all of them. Repeated every 30 s." group:"Cluster"`
	GossipKeys          []string `help:"Keys of 16, 24 or 32 bytes in base64: the first encrypts, all decrypt. To rotate, add the new key last everywhere, then move it first, then remove the old one." group:"Cluster"`
	GossipInsecure      bool     `help:"Allow gossip without a key on an address other than loopback." group:"Cluster"`
}

// Validate reports every mistake.
func (c *Config) Validate(report func(setting, problem string)) {}
