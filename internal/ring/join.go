package ring

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/outage"
)

const (
	// rejoinInterval is the pace of joining for ever: a node that a partition
	// has evicted does not come back by itself, and pods that all restarted at
	// once may have started as islands.
	rejoinInterval = 30 * time.Second
	// firstRetry is the pace while nobody has been reached; it doubles.
	firstRetry = 500 * time.Millisecond
	// joinsAtOnce bounds the wait for addresses that do not answer.
	joinsAtOnce = 8
)

// lookupFunc resolves a host name to all its addresses.
type lookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func systemLookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// keepJoining joins those of GOSSIP_JOIN that are not members, again and again,
// and more often as long as this node is alone. Once stopping is closed, nobody is
// told that a join failed.
func (d *Directory) keepJoining(ctx context.Context, stopping <-chan struct{}) {
	retry := firstRetry
	for {
		err := d.join(ctx)
		select {
		case <-stopping:
			return
		default:
		}
		if ctx.Err() != nil || d.left.Load() {
			return
		}
		wait := d.options.rejoin
		if len(d.roster.addresses()) <= 1 {
			wait = min(wait, retry)
			retry = min(2*retry, d.options.rejoin)
		} else {
			retry = firstRetry
		}
		wait += rand.N(wait/10 + 1)
		d.noteJoin(err, wait)
		if len(d.cfg.GossipJoin) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			return
		case <-time.After(wait):
		}
	}
}

func (d *Directory) noteJoin(err error, retry time.Duration) {
	if err != nil {
		d.outage.Failed(strings.Join(d.cfg.GossipJoin, ", "), outage.OneLine(err.Error()), retry)
		return
	}
	d.outage.Over()
	d.joined.Store(true)
	signal(d.inbox.wake)
}

// join resolves GOSSIP_JOIN again and joins every address that is not a member.
// It returns nil if somebody was reached, or is a member already whether listed or
// not, and also if there is nobody but this node.
func (d *Directory) join(ctx context.Context) error {
	targets, err := resolveAll(ctx, d.options.lookup, d.cfg.GossipJoin)
	members, self := d.roster.addresses(), d.Self().Address
	var strangers []string
	reached := false
	for _, address := range targets {
		switch {
		case address == self:
		case members[address]:
			reached = true
		default:
			strangers = append(strangers, address)
		}
	}
	joined, joinErr := d.joinEach(ctx, strangers)
	if reached || joined > 0 || len(d.roster.addresses()) > 1 {
		return nil
	}
	return errors.Join(err, joinErr)
}

func (d *Directory) joinEach(ctx context.Context, addresses []string) (joined int, err error) {
	var mu sync.Mutex
	var failures []string
	var g errgroup.Group
	g.SetLimit(joinsAtOnce)
	for _, address := range addresses {
		g.Go(func() error {
			if ctx.Err() != nil || d.left.Load() {
				return nil
			}
			n, err := d.list.Join([]string{address})
			mu.Lock()
			defer mu.Unlock()
			joined += n
			if err != nil {
				failures = append(failures, address+": "+outage.Reason(err))
			}
			return nil
		})
	}
	_ = g.Wait()
	if len(failures) > 0 {
		slices.Sort(failures) // what does not change is to read as it did
		err = errors.New(strings.Join(failures, "; "))
	}
	return joined, err
}

// resolveAll returns every address of every entry, once. The error is about the
// last entry that could not be resolved; the others' addresses are returned
// beside it.
func resolveAll(ctx context.Context, lookup lookupFunc, entries []string) (addresses []string, last error) {
	for _, entry := range entries {
		host, port, err := splitJoin(entry)
		if err != nil {
			last = fmt.Errorf("gossip member %q: %w", entry, err)
			continue
		}
		ips, err := resolve(ctx, lookup, host)
		if err != nil {
			last = errors.New(host + ": " + outage.Reason(err))
		}
		for _, ip := range ips {
			addresses = append(addresses, netip.AddrPortFrom(ip.Unmap().WithZone(""), port).String())
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses), last
}

func resolve(ctx context.Context, lookup lookupFunc, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	return lookup(ctx, host)
}
