package network

import (
	"fmt"
	"os/exec"
	"strings"
)

// queueing is how long what is over a narrow link's rate waits, before it is lost.
const queueing = "2s"

// CheckSlow says why links cannot be made slow here, nil if they can.
func (n *Network) CheckSlow() error {
	if err := tc("", "add", bridge, "tbf", "rate", "1mbit", "burst", "16k", "latency", queueing); err != nil {
		return err
	}
	return tc("", "del", bridge)
}

// Narrow has a host send and get no more than so many kilobits a second, until
// Widen: what is over that waits in front of the link.
func (n *Network) Narrow(h Host, kilobits int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	port, known := n.ports[h]
	if !known {
		return fmt.Errorf("make the link of %s narrow: no such host", h)
	}
	n.narrow[h] = true
	rate := []string{"tbf", "rate", fmt.Sprintf("%dkbit", kilobits), "burst", "16k", "latency", queueing}
	if err := tc(string(h), "replace", interior, rate...); err != nil {
		return err
	}
	return tc("", "replace", port, rate...)
}

// Widen takes Narrow back.
func (n *Network) Widen(h Host) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.narrow[h] {
		return nil
	}
	delete(n.narrow, h)
	if err := tc(string(h), "del", interior); err != nil {
		return err
	}
	return tc("", "del", n.ports[h])
}

// Buffer is what the system holds of a connection.
type Buffer string

// The buffers of a connection.
const (
	Sending   Buffer = "tcp_wmem"
	Receiving Buffer = "tcp_rmem"
)

// Shallow has a buffer of the connections that a host makes from now on hold no more
// than 16 KiB: whoever sends to one that stands still has to wait soon.
func (n *Network) Shallow(h Host, b Buffer) error {
	command := append(n.Command(h), "sh", "-c", "echo 4096 16384 16384 > /proc/sys/net/ipv4/"+string(b))
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("make the buffers of %s small (%s): %w: %s", h, b, err, out)
	}
	return nil
}

// tc changes the queue in front of a device in a namespace; "": our own.
func tc(namespace, change, device string, queue ...string) error {
	arguments := append([]string{"qdisc", change, "dev", device, "root"}, queue...)
	if namespace != "" {
		arguments = append([]string{"-n", namespace}, arguments...)
	}
	if out, err := exec.Command("tc", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("tc %s: %w: %s", strings.Join(arguments, " "), err, out)
	}
	return nil
}
