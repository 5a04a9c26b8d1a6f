package ring

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

func testKey(bytes int) settings.Secret {
	return settings.Secret(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", bytes))))
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		mutate func(*Config)
		wrong  []string // the settings reported
	}{
		{"production", func(*Config) {}, nil},
		{"three keys", func(c *Config) { c.GossipKeys = append(c.GossipKeys, testKey(16), testKey(24)) }, nil},
		{"port only", func(c *Config) { c.GossipAddr = ":7946" }, nil},
		{"any port", func(c *Config) { c.GossipAddr = ":0" }, nil},
		{"IPv6", func(c *Config) { c.GossipAddr = "[::]:7946" }, nil},
		{"no key on loopback", func(c *Config) { c.GossipAddr, c.GossipKeys = "127.0.0.1:0", nil }, nil},
		{"no key on localhost", func(c *Config) { c.GossipAddr, c.GossipKeys = "localhost:0", nil }, nil},
		{"no key, allowed", func(c *Config) { c.GossipKeys, c.GossipInsecure = nil, true }, nil},
		{"no key", func(c *Config) { c.GossipKeys = nil }, []string{"GOSSIP_KEYS"}},
		{"no key on all interfaces", func(c *Config) { c.GossipAddr, c.GossipKeys = ":0", nil }, []string{"GOSSIP_KEYS"}},
		{"key of 15 bytes", func(c *Config) { c.GossipKeys = []settings.Secret{testKey(15)} }, []string{"GOSSIP_KEYS"}},
		{"key that is not base64", func(c *Config) { c.GossipKeys = []settings.Secret{"not base64!"} }, []string{"GOSSIP_KEYS"}},
		{"host name to bind", func(c *Config) { c.GossipAddr = "gateway:7946" }, []string{"GOSSIP_ADDR"}},
		{"no port", func(c *Config) { c.GossipAddr = "0.0.0.0" }, []string{"GOSSIP_ADDR"}},
		{"port out of range", func(c *Config) { c.GossipAddr = ":70000" }, []string{"GOSSIP_ADDR"}},
		{"advertise with port", func(c *Config) { c.GossipAdvertiseAddr = "10.0.0.7:1" }, nil},
		{"advertise without port", func(c *Config) { c.GossipAdvertiseAddr = "10.0.0.7" }, nil},
		{"advertise a name", func(c *Config) { c.GossipAdvertiseAddr = "pod-1" }, []string{"GOSSIP_ADVERTISE_ADDR"}},
		{"advertise nothing", func(c *Config) { c.GossipAdvertiseAddr = "0.0.0.0:7946" }, []string{"GOSSIP_ADVERTISE_ADDR"}},
		{"join", func(c *Config) { c.GossipJoin = []string{"gossip:7946", "10.0.0.7:7946", "[::1]:7946"} }, nil},
		{"join without port", func(c *Config) { c.GossipJoin = []string{"gossip"} }, []string{"GOSSIP_JOIN"}},
		{"join port 0", func(c *Config) { c.GossipJoin = []string{"gossip:0", "gossip"} }, []string{"GOSSIP_JOIN"}},
		{"no cluster name", func(c *Config) { c.ClusterName = "" }, []string{"CLUSTER_NAME"}},
		{"long cluster name", func(c *Config) { c.ClusterName = strings.Repeat("x", 256) }, []string{"CLUSTER_NAME"}},
		{"all at once", func(c *Config) { *c = Config{GossipJoin: []string{""}} }, []string{"CLUSTER_NAME", "GOSSIP_ADDR", "GOSSIP_JOIN"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := settings.Default[Config]()
			c.GossipKeys = []settings.Secret{testKey(32)}
			test.mutate(&c)
			var wrong []string
			c.Validate(func(setting, problem string) {
				wrong = append(wrong, setting)
				for _, key := range c.GossipKeys {
					require.NotContains(t, problem, string(key))
				}
			})
			require.Equal(t, test.wrong, wrong)
		})
	}
}

// The settings are read by their names, and a key is never shown in a mistake.
func TestConfigIsRead(t *testing.T) {
	t.Parallel()
	environ := map[string]string{
		"GOSSIP_ADDR": "127.0.0.1:0", "GOSSIP_JOIN": "a:1,b:2", "CLUSTER_NAME": "test",
		"GOSSIP_KEYS": string(testKey(16) + "," + testKey(32)), "GOSSIP_ADVERTISE_ADDR": "127.0.0.1",
	}
	var c Config
	lookup := func(name string) (string, bool) { v, ok := environ[name]; return v, ok }
	require.NoError(t, settings.Parse("test", "", &c, nil, lookup))
	require.Equal(t, Config{
		ClusterName: "test", GossipAddr: "127.0.0.1:0", GossipAdvertiseAddr: "127.0.0.1",
		GossipJoin: []string{"a:1", "b:2"}, GossipKeys: []settings.Secret{testKey(16), testKey(32)}, DirectoryMaxBytes: 256 * settings.MiB,
	}, c)
	environ["GOSSIP_KEYS"] = "c2VjcmV0"
	err := settings.Parse("test", "", &c, nil, lookup)
	require.ErrorContains(t, err, "GOSSIP_KEYS")
	require.NotContains(t, err.Error(), "c2VjcmV0")
}
