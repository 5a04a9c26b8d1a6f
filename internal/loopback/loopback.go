// Package loopback tells this machine from others that a network leads to.
package loopback

import (
	"net/netip"
	"strings"
)

// Is reports whether a host, a name or an address, is this machine and needs no
// network to be reached.
func Is(host string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
