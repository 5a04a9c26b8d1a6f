// Package access decides who may connect, by address: which addresses are
// allowed at all, whose word about a client's address is believed, how often one
// may come, and how many connections there are before anybody has
// authenticated. It decides as early as it can, when a connection is accepted,
// before a byte is read or a TLS handshake begins; from where the daemons of one
// orchestrator may come (Origins), once it is known whose they are.
package access

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/reread"
)

// Config says who may connect to one address of a program.
type Config struct {
	AllowedCIDRs        []netip.Prefix `name:"allowed-cidrs" help:"Address ranges that clients may connect from; empty: all."`
	AllowedCIDRsFile    string         `name:"allowed-cidrs-file" help:"File with more ranges that clients may connect from, one a line, read again when it changes. With such a file an empty list means nobody."`
	DeniedCIDRs         []netip.Prefix `name:"denied-cidrs" help:"Address ranges that nobody may connect from, allowed or not."`
	DeniedCIDRsFile     string         `name:"denied-cidrs-file" help:"File with more ranges that nobody may connect from, one a line, read again when it changes."`
	TrustedProxies      []netip.Prefix `help:"Address ranges of load balancers. Their X-Forwarded-For is believed, and the PROXY protocol (version 1 or 2) if they speak it. Whoever else can connect from such a range can invent an address: name as few as you can."`
	TrustedProxyHops    int            `help:"How many load balancers of TRUSTED_PROXIES stand one behind the other: at most so many addresses at the end of X-Forwarded-For are looked at." default:"1" min:"1" max:"16"`
	MaxConnectionsPerIP int            `name:"max-connections-per-ip" help:"Connections that one IP address (IPv6: one /64) may have at a time; further ones are closed at once. Load balancers are exempt, and those behind them counted. Raise it where more daemons share an address, as behind NAT." default:"10000" min:"1"`
	MaxUnauthenticated  int            `help:"Connections that may be there at a time without having authenticated; where one more comes, one of the address that has most of them is closed, the oldest." default:"5000" min:"1"`
}

// Check reports what is wrong with the settings, whose names begin with prefix.
func (c Config) Check(prefix string, report func(setting, problem string)) {
	for setting, path := range map[string]string{"ALLOWED_CIDRS_FILE": c.AllowedCIDRsFile, "DENIED_CIDRS_FILE": c.DeniedCIDRsFile} {
		if path == "" {
			continue
		}
		f := reread.File{Path: path, Take: func(content []byte) error {
			_, err := parseRanges(content)
			return err
		}}
		if err := f.Look(); err != nil {
			report(prefix+setting, "expected a file with an address range such as 10.0.0.0/8 on each line: "+err.Error())
		}
	}
}

// Refusal is why a connection was closed before it could be of use.
type Refusal string

// The refusals.
const (
	// RefusedAddress: not in an allowed range, or in a denied one.
	RefusedAddress Refusal = "address"
	// RefusedConnections: the address has as many connections as it may.
	RefusedConnections Refusal = "connections"
	// RefusedUnauthenticated: one of too many that have not authenticated.
	RefusedUnauthenticated Refusal = "unauthenticated"
)

// Refusals lists every Refusal.
var Refusals = []Refusal{RefusedAddress, RefusedConnections, RefusedUnauthenticated}

// Control applies the rules. Its methods may be called at any time.
type Control struct {
	cfg             Config
	allowed, denied ranges
	files           []*reread.File
	rates           rates
	refused         func(Refusal, netip.Addr)
	changed         func() // set before the files are read again
	logger          *slog.Logger
	exhausted       rate.Sometimes // that it is said

	mu      sync.Mutex
	held    map[netip.Addr]int // connections of each address; guarded by mu
	waiting waiting            // those that have not authenticated; guarded by mu
}

// New returns the rules; each address may connect perSecond times a second.
// prefix begins the settings' names, and refused is told of what is closed.
func New(cfg Config, prefix string, perSecond int, refused func(Refusal, netip.Addr), logger *slog.Logger, reg prometheus.Registerer) (*Control, error) {
	cfg.TrustedProxies = plainRanges(cfg.TrustedProxies)
	a := &Control{
		cfg: cfg, rates: newRates(perSecond), refused: refused, changed: func() {}, logger: logger,
		exhausted: rate.Sometimes{First: 1, Interval: time.Minute},
		allowed:   ranges{fixed: plainRanges(cfg.AllowedCIDRs)}, denied: ranges{fixed: plainRanges(cfg.DeniedCIDRs), keep: true},
		held: make(map[netip.Addr]int),
	}
	for _, r := range []struct {
		setting, path string
		ranges        *ranges
	}{{"ALLOWED_CIDRS_FILE", cfg.AllowedCIDRsFile, &a.allowed}, {"DENIED_CIDRS_FILE", cfg.DeniedCIDRsFile, &a.denied}} {
		if r.path == "" {
			continue
		}
		r.ranges.hasFile = true
		f := &reread.File{Setting: prefix + r.setting, Path: r.path, Take: func(content []byte) error {
			err := r.ranges.take(content)
			a.changed()
			return err
		}}
		if err := f.Look(); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Setting, err)
		}
		f.Observe(logger, reg)
		a.files = append(a.files, f)
	}
	for _, p := range cfg.TrustedProxies {
		if wide(p) {
			logger.Warn("a range of trusted proxies is wide: whoever can connect from it can invent an address",
				"setting", prefix+"TRUSTED_PROXIES", "range", p.String())
		}
	}
	return a, nil
}

// wide reports whether a range has more addresses than load balancers need.
func wide(p netip.Prefix) bool {
	if p = plainRange(p); p.Addr().Is4() {
		return p.Bits() < 16
	}
	return p.Bits() < 48
}

// OnChange registers what is called when other addresses are allowed than
// before; it must be called before the files are read again.
func (a *Control) OnChange(f func()) { a.changed = f }

// Files are those of ranges, for who reads them again.
func (a *Control) Files() []*reread.File { return a.files }

// Permits reports whether an address may connect at all.
func (a *Control) Permits(addr netip.Addr) bool {
	return !a.denied.contains(addr) && (a.allowed.empty() || a.allowed.contains(addr))
}

// Admits counts a connect, and reports whether the address may have another one
// now.
func (a *Control) Admits(addr netip.Addr, now time.Time) bool { return a.rates.allow(addr, now) }

func (a *Control) trusts(addr netip.Addr) bool { return contains(a.cfg.TrustedProxies, addr) }

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Network is what counts as one client: of IPv6 the network (a /64), since one
// machine has as many addresses as it likes.
func Network(addr netip.Addr) netip.Addr {
	addr = plain(addr)
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// proxyHeaderTimeout is how long a trusted proxy may take to say for whom it
// connects; then it counts as one that says nothing.
const proxyHeaderTimeout = 5 * time.Second

// Listener returns l, a TCP listener, as one that accepts only whom the rules
// let in, and whose connections have the address that a trusted proxy says in a
// PROXY header (version 1 or 2), before TLS and HTTP. A proxy need not send one.
// From anybody else such a header is not looked for: it is no HTTP, and refused
// as that.
func (a *Control) Listener(l net.Listener) net.Listener {
	l = &listener{Listener: l, control: a}
	if len(a.cfg.TrustedProxies) == 0 {
		return l
	}
	return &proxied{l}
}

// proxied reads PROXY headers where a trusted proxy has connected.
type proxied struct{ net.Listener }

// Accept implements net.Listener.
func (l *proxied) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	c, ok := conn.(*Conn)
	if err != nil || !ok || !c.proxied {
		return conn, err
	}
	return proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.USE), proxyproto.SetReadHeaderTimeout(proxyHeaderTimeout),
		proxyproto.ValidateHeader(func(h *proxyproto.Header) error {
			if h.SourceAddr != nil && !h.Command.IsLocal() {
				c.waitsFor(peerAddress(h.SourceAddr.String()))
			}
			return nil
		})), nil
}
