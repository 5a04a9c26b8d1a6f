package access

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// ranges are address ranges, some of them in a file that is read again.
type ranges struct {
	fixed   []netip.Prefix
	hasFile bool
	// keep: what the file said before counts on as long as a line of it cannot
	// be read. So a mistake in a list lets nobody in, whatever the list is for.
	keep bool
	file atomic.Pointer[[]netip.Prefix]
}

// empty reports whether there is no list at all.
func (r *ranges) empty() bool { return !r.hasFile && len(r.fixed) == 0 }

func (r *ranges) contains(addr netip.Addr) bool {
	if contains(r.fixed, addr) {
		return true
	}
	file := r.file.Load()
	return file != nil && contains(*file, addr)
}

// take takes over what a file says. Of one with mistakes the other lines count.
func (r *ranges) take(content []byte) error {
	list, err := parseRanges(content)
	if before := r.file.Load(); err != nil && r.keep && before != nil {
		list = append(slices.Clone(*before), list...)
		slices.SortFunc(list, netip.Prefix.Compare)
		list = slices.Compact(list)
	}
	r.file.Store(&list)
	return err
}

// parseRanges reads an address range, or an address, on each line; empty lines
// and those that begin with # are ignored. The error is about the first line
// that is none of these.
func parseRanges(content []byte) (list []netip.Prefix, err error) {
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		p, parseErr := parseRange(text)
		if parseErr == nil {
			list = append(list, p)
		} else if err == nil {
			err = fmt.Errorf("line %d: %w", n, errNoRange)
		}
	}
	if err == nil {
		err = lines.Err()
	}
	return list, err
}

// errNoRange repeats nothing of what it is about, which may be anything.
var errNoRange = errors.New("expected an address range such as 10.0.0.0/8")

// ParseRanges reads address ranges, or single addresses. Where some are neither,
// it returns the others and an error.
func ParseRanges(texts []string) (list []netip.Prefix, err error) {
	for _, text := range texts {
		p, parseErr := parseRange(text)
		if parseErr != nil {
			err = errNoRange
			continue
		}
		list = append(list, p)
	}
	return list, err
}

// Within reports whether an address is in one of the ranges that ParseRanges has
// read.
func Within(ranges []netip.Prefix, addr netip.Addr) bool { return contains(ranges, plain(addr)) }

func parseRange(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return plainRange(p), err
}

// plainRange is a range in the one form in which addresses are compared with it.
func plainRange(p netip.Prefix) netip.Prefix {
	const mapped = 96 // bits before an address of IPv4 in one of IPv6
	if p.Addr().Is4In6() && p.Bits() >= mapped {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	return p
}

func plainRanges(list []netip.Prefix) []netip.Prefix {
	list = slices.Clone(list)
	for i, p := range list {
		list[i] = plainRange(p)
	}
	return list
}
