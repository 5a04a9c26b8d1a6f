// Package network makes a private network on this machine: one network
// namespace with an address of its own for each host, all attached to one
// bridge, and the program that asked for it attached as well. Any link between
// two of them can be cut, each direction by itself and without a word: what is
// sent there vanishes, and the sender is told nothing. A host's own link can be
// made slow, and its buffers small.
//
// Everything lives in namespaces that the program enters first (Enter) and that
// end with the last of its processes, however it ends. The machine's own
// interfaces are never touched. It needs Linux, root and the command ip, and
// for slow links the command tc.
package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

// Host names a member of the network.
type Host string

// Outside is the program itself, with all that it does in its own namespace.
const Outside Host = "outside"

// Link is one direction between two hosts.
type Link struct{ From, To Host }

// Between returns the links from each of some hosts to each of others.
func Between(from, to []Host) []Link {
	var links []Link
	for _, f := range from {
		for _, t := range to {
			if f != t {
				links = append(links, Link{f, t})
			}
		}
	}
	return links
}

const (
	bridge    = "gateway0"
	interior  = "eth0" // what each host's own end is called
	prefixLen = 24
	// nobody is a link-layer address that no host has: the bridge floods what is
	// sent there, and every host drops it.
	nobody = "02:00:00:00:00:99"
)

var firstAddress = netip.MustParseAddr("10.77.0.1")

// Network is a private network. Its methods may be called at the same time.
type Network struct {
	mu        sync.Mutex
	addresses map[Host]netip.Addr
	ports     map[Host]string // the bridge's end of each host's link
	cut       map[Link]bool
	narrow    map[Host]bool
}

// New makes a network that nobody but Outside is on. The program must have
// entered namespaces of its own.
func New() (*Network, error) {
	if err := claimNamespaces(); err != nil {
		return nil, fmt.Errorf("make a private network: %w", err)
	}
	n := &Network{addresses: map[Host]netip.Addr{Outside: firstAddress}, ports: map[Host]string{}, cut: map[Link]bool{}, narrow: map[Host]bool{}}
	return n, batch("",
		"link set lo up",
		fmt.Sprintf("link add name %s type bridge", bridge),
		fmt.Sprintf("addr add %s/%d dev %s", firstAddress, prefixLen, bridge),
		fmt.Sprintf("link set %s up", bridge),
	)
}

// Add puts a host on the network and returns its address.
func (n *Network) Add(h Host) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.addresses[h]; there {
		return "", fmt.Errorf("add host %s to the network: it is there already", h)
	}
	address := firstAddress
	for range n.addresses {
		address = address.Next()
	}
	port := fmt.Sprintf("host%d", len(n.addresses))
	err := ip("", "netns", "add", string(h))
	if err == nil {
		err = batch("",
			fmt.Sprintf("link add %s type veth peer name %s netns %s", port, interior, h),
			fmt.Sprintf("link set %s master %s up", port, bridge),
		)
	}
	if err == nil {
		err = batch(string(h),
			"link set lo up",
			fmt.Sprintf("addr add %s/%d dev %s", address, prefixLen, interior),
			fmt.Sprintf("link set %s up", interior),
		)
	}
	if err != nil {
		return "", fmt.Errorf("add host %s to the network: %w", h, err)
	}
	n.addresses[h], n.ports[h] = address, port
	return address.String(), nil
}

// Command is what to put before a command to have it run on a host. The
// process stays the same one: nothing is left in between.
func (n *Network) Command(h Host) []string { return []string{"ip", "netns", "exec", string(h)} }

// Cut cuts links; those that are cut already stay so.
func (n *Network) Cut(links ...Link) error { return n.set(links, true) }

// Mend makes links whole again.
func (n *Network) Mend(links ...Link) error { return n.set(links, false) }

// MendAll makes every link whole and wide again.
func (n *Network) MendAll() error {
	n.mu.Lock()
	links, hosts := slices.Collect(maps.Keys(n.cut)), slices.Collect(maps.Keys(n.narrow))
	n.mu.Unlock()
	failures := []error{n.set(links, false)}
	for _, h := range hosts {
		failures = append(failures, n.Widen(h))
	}
	return errors.Join(failures...)
}

// set changes what senders believe to be the link-layer address of receivers: a
// permanent wrong entry drops one direction only, also of connections that
// exist, and no answer corrects it. Without the entry the sender asks again.
func (n *Network) set(links []Link, cut bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	commands := map[Host][]string{}
	for _, l := range links {
		if n.cut[l] == cut {
			continue
		}
		to, known := n.addresses[l.To]
		if _, also := n.addresses[l.From]; !known || !also {
			return fmt.Errorf("cut or mend the link from %s to %s: no such host", l.From, l.To)
		}
		device := interior
		if l.From == Outside {
			device = bridge
		}
		if cut {
			n.cut[l] = true
			commands[l.From] = append(commands[l.From], fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev %s", to, nobody, device))
		} else {
			delete(n.cut, l)
			commands[l.From] = append(commands[l.From], fmt.Sprintf("neigh del %s dev %s", to, device))
		}
	}
	var failures []error
	for from, lines := range commands {
		namespace := string(from)
		if from == Outside {
			namespace = ""
		}
		failures = append(failures, batch(namespace, lines...))
	}
	return errors.Join(failures...)
}

// batch has ip do several things in a namespace; "": our own.
func batch(namespace string, commands ...string) error {
	return run(namespace, strings.Join(commands, "\n"), "-batch", "-")
}

func ip(namespace string, arguments ...string) error { return run(namespace, "", arguments...) }

func run(namespace, input string, arguments ...string) error {
	if namespace != "" {
		arguments = append([]string{"-n", namespace}, arguments...)
	}
	cmd := exec.Command("ip", arguments...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s%s", strings.Join(arguments, " "), err, input, out)
	}
	return nil
}
