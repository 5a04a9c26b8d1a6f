package devcluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// writeSpareEdge writes the settings of one more edge, as a process of its own that
// may be killed, and returns the file and where daemons would connect. The cluster's
// own edges are in one process, and die together.
func (c *Cluster) writeSpareEdge() (file, url string, err error) {
	name := fmt.Sprintf("edge-%d", len(c.edges)+1)
	listen, err := known(&c.ports.edge)
	if err != nil {
		return "", "", err
	}
	admin, err := known(&c.ports.admin)
	if err != nil {
		return "", "", err
	}
	settings := [][2]string{
		{"NODE_NAME", name},
		{"NATS_URL", c.NATSURL()},
		{"CLUSTER_NAME", clusterName},
		{"GOSSIP_ADDR", address(0)},
		{"GOSSIP_JOIN", strings.Join(c.gossip, ",")},
		{"LISTEN_ADDR", listen},
		{"ADMIN_ADDR", admin},
		{"ALLOW_INSECURE_SECRET", "true"},
		{"LOG_MAX_BYTES", c.logConfig().LogMaxBytes.String()},
		{"LOG_LEVEL", strings.ToLower(c.cfg.LogLevel.String())},
	}
	if c.cfg.DaemonJWTSecret == "" { // else it is where it came from
		settings = append(settings, [2]string{"DAEMON_JWT_SECRET_FILE", c.cfg.secretFile()})
	}
	var text strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&text, "%s='%s'\n", s[0], strings.ReplaceAll(s[1], "'", `'\''`))
	}
	file = filepath.Join(c.cfg.Data, name+".env")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return "", "", fmt.Errorf("write the settings of one more edge: %w", err)
	}
	return file, "ws://" + listen + "/daemon/ws", nil
}

// known is next for somebody who has to be told the port before it is listened on.
func known(port *int) (string, error) {
	listener, err := net.Listen("tcp", next(port))
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}
