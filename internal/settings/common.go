package settings

import (
	"os"
	"time"
)

// Common is the part of the configuration that a program of any tier has.
type Common struct {
	NodeName        string        `help:"Name of this node, unique in the cluster; the host name when empty." group:"Operation"`
	ShutdownTimeout time.Duration `help:"Hard limit of a graceful stop." default:"30s" min:"1s" group:"Operation"`
	Logging
}

// Node returns NODE_NAME, or the host's name.
func (c Common) Node() string {
	if c.NodeName != "" {
		return c.NodeName
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "unnamed"
	}
	return host
}
