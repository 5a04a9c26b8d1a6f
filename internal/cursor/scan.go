package cursor

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/jsonscan"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// scan reads a record as Encode usually writes it: a record is read before each
// save of it, and most of that time was reflection. It never finds fault: ok is
// false for what is malformed, of another version, or only unusual, and
// unmarshal then says what it means. What scan accepts, unmarshal reads as the
// same record; a fuzz test compares them. Besides what package jsonscan doubts,
// it leaves to unmarshal
//   - a name that it does not know, which encoding/json may take for one that
//     differs in case only,
//   - what occurs twice, null, what is empty and would not have been written,
//   - an escape in a text, numbers that are negative or very large.
func scan(data []byte) (rec Record, ok bool) {
	if !utf8.Valid(data) {
		return rec, false
	}
	var s scanner
	var f [6][]byte
	s.fields(data, "vedpol", f[:])
	if s.number(f[0], math.MaxUint64) != Version {
		return rec, false
	}
	rec.Epoch = eventlog.Epoch(s.text(f[1]))
	if rec.Daemons = byDaemon(&s, f[2], (*scanner).entry); rec.Daemons == nil {
		rec.Daemons = make(map[protocol.DaemonID]Entry)
	}
	rec.Awaited = byDaemon(&s, f[3], (*scanner).awaited)
	rec.Presumed = byDaemon(&s, f[4], (*scanner).sequence)
	if f[5] != nil {
		rec.Lost = s.lost(f[5])
	}
	return rec, !s.doubt
}

// scanner reads values, of which nil is an absent one, and notes whether any of
// them was doubtful.
type scanner struct{ doubt bool }

// fields sets values to those of an object's members, in the order of the
// letters that are their names.
func (s *scanner) fields(object []byte, letters string, values [][]byte) {
	c := jsonscan.Object(object)
	for {
		name, value, more := c.Next()
		if !more {
			s.check(c.Whole())
			return
		}
		i := -1
		if len(name) == 1 {
			i = strings.IndexByte(letters, name[0])
		}
		if i < 0 || values[i] != nil {
			s.doubt = true
			return
		}
		values[i] = value
	}
}

func (s *scanner) check(ok bool) { s.doubt = s.doubt || !ok }

func (s *scanner) number(value []byte, most uint64) uint64 {
	if value == nil {
		return 0
	}
	n, ok := jsonscan.Uint(value)
	s.check(ok && n <= most)
	return n
}

func (s *scanner) sequence(value []byte) uint64 { return s.number(value, math.MaxUint64) }

func (s *scanner) signed(value []byte) int64 { return int64(s.number(value, math.MaxInt64)) }

func (s *scanner) text(value []byte) string {
	if value == nil {
		return ""
	}
	text, ok := jsonscan.Text(value)
	s.check(ok)
	return string(text)
}

func (s *scanner) daemon(value []byte) protocol.DaemonID { return protocol.DaemonID(s.text(value)) }

func (s *scanner) flag(value []byte) bool {
	s.check(value == nil || value[0] == 't' || value[0] == 'f')
	return len(value) > 0 && value[0] == 't'
}

func (s *scanner) entry(object []byte) Entry {
	var f [13][]byte
	s.fields(object, "ghfrusaqtnxlw", f[:])
	w := wireEntry{
		Generation: s.sequence(f[0]), Edge: s.text(f[1]), Floor: s.sequence(f[2]), Settled: list(s, f[3], (*scanner).sequence),
		Unnamed: s.sequence(f[4]), Subscriptions: list(s, f[5], (*scanner).subscription), AnswersFor: list(s, f[6], (*scanner).daemon),
		SendsOf: s.sequence(f[7]), SendsStored: s.signed(f[8]), SendsCount: int(s.number(f[9], math.MaxInt32)),
		Sent: s.sequence(f[10]), Left: s.flag(f[11]), WrittenMillis: s.signed(f[12]),
	}
	if len(w.Settled)%2 != 0 {
		s.doubt = true
		return Entry{}
	}
	return w.entry()
}

func (s *scanner) subscription(object []byte) protocol.Subscription {
	var f [2][]byte
	s.fields(object, "tc", f[:])
	return protocol.Subscription{Pattern: protocol.Pattern(s.text(f[0])), Channels: list(s, f[1], (*scanner).text)}
}

func (s *scanner) lost(object []byte) Lost {
	var f [2][]byte
	s.fields(object, "ws", f[:])
	return wireLost{s.signed(f[0]), list(s, f[1], (*scanner).subscription)}.lost()
}

func (s *scanner) awaited(array []byte) Awaited {
	pair := list(s, array, (*scanner).signed)
	if len(pair) != 2 {
		s.doubt = true
		return Awaited{}
	}
	return awaited([2]int64(pair))
}

// byDaemon reads an object whose names are ids; nil where it is absent.
func byDaemon[T any](s *scanner, object []byte, read func(*scanner, []byte) T) map[protocol.DaemonID]T {
	if object == nil {
		return nil
	}
	all := make(map[protocol.DaemonID]T)
	c := jsonscan.Object(object)
	for {
		name, value, more := c.Next()
		if !more {
			s.check(c.Whole() && len(all) > 0)
			return all
		}
		id := protocol.DaemonID(name)
		_, twice := all[id]
		s.check(!twice)
		all[id] = read(s, value)
	}
}

// list reads an array; nil where it is absent.
func list[T any](s *scanner, array []byte, read func(*scanner, []byte) T) []T {
	if array == nil {
		return nil
	}
	var all []T
	c := jsonscan.Array(array)
	for {
		_, value, more := c.Next()
		if !more {
			s.check(c.Whole() && len(all) > 0)
			return all
		}
		all = append(all, read(s, value))
	}
}
