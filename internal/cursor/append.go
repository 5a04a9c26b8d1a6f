package cursor

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// appendTo appends what marshal returns, without reflection. ok is false where
// a text has anything that encoding/json would not write as it is.
func (rec Record) appendTo(buf []byte) (_ []byte, ok bool) {
	a := appender{buf: buf}
	a.raw(`{"v":`).number(Version).raw(`,"e":`).text(string(rec.Epoch))
	appendByDaemon(&a, `,"d":{`, rec.Daemons, (*appender).entry)
	appendByDaemon(&a, `,"p":{`, rec.Awaited, (*appender).awaited)
	appendByDaemon(&a, `,"o":{`, rec.Presumed, func(a *appender, generation uint64) { a.number(generation) })
	a.lost(rec.Lost)
	a.raw("}")
	return a.buf, !a.unusual
}

type appender struct {
	buf     []byte
	unusual bool
}

func (a *appender) raw(text string) *appender {
	a.buf = append(a.buf, text...)
	return a
}

func (a *appender) number(n uint64) *appender {
	a.buf = strconv.AppendUint(a.buf, n, 10)
	return a
}

func (a *appender) signed(n int64) *appender {
	a.buf = strconv.AppendInt(a.buf, n, 10)
	return a
}

func (a *appender) text(text string) *appender {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			a.unusual = true
		}
	}
	a.buf = append(append(append(a.buf, '"'), text...), '"')
	return a
}

// storedBytes is at least how long encoding/json writes a text of a list, its
// quotes and the comma included.
func storedBytes(text string) int {
	const (
		around  = 3
		escaped = len(`\u2028`) // the longest of its escapes
	)
	n := around
	for _, c := range text {
		switch {
		case c < ' ', c == '<', c == '>', c == '&', c == '\u2028', c == '\u2029', c == utf8.RuneError:
			n += escaped
		case c == '"', c == '\\':
			n += len(`\"`)
		default:
			n += utf8.RuneLen(c)
		}
	}
	return n
}

// separate appends what stands before the element of that index.
func (a *appender) separate(opening string, index int) *appender {
	if index == 0 {
		return a.raw(opening)
	}
	return a.raw(",")
}

// optional appends a number unless it is 0.
func (a *appender) optional(name string, n uint64) *appender {
	if n != 0 {
		a.raw(name).number(n)
	}
	return a
}

func (a *appender) entry(e Entry) {
	w := e.wire()
	a.raw("{")
	if w.Generation != 0 {
		a.raw(`"g":`).number(w.Generation).raw(",")
	}
	if w.Edge != "" {
		a.raw(`"h":`).text(w.Edge).raw(",")
	}
	a.raw(`"f":`).number(w.Floor)
	appendList(a, `,"r":[`, w.Settled, func(a *appender, sequence uint64) { a.number(sequence) })
	a.optional(`,"u":`, w.Unnamed)
	appendList(a, `,"s":[`, w.Subscriptions, (*appender).subscription)
	appendList(a, `,"a":[`, w.AnswersFor, func(a *appender, id protocol.DaemonID) { a.text(string(id)) })
	a.optional(`,"q":`, w.SendsOf)
	if w.SendsStored != 0 {
		a.raw(`,"t":`).signed(w.SendsStored)
	}
	if w.SendsCount != 0 {
		a.raw(`,"n":`).signed(int64(w.SendsCount))
	}
	a.optional(`,"x":`, w.Sent)
	if w.Left {
		a.raw(`,"l":true`)
	}
	a.raw(`,"w":`).signed(w.WrittenMillis).raw("}")
}

func (a *appender) subscription(s protocol.Subscription) {
	a.raw(`{"t":`).text(string(s.Pattern))
	appendList(a, `,"c":[`, s.Channels, func(a *appender, channel string) { a.text(channel) })
	a.raw("}")
}

func (a *appender) lost(l Lost) {
	if l.Since.IsZero() {
		return
	}
	a.raw(`,"l":{"w":`).signed(l.Since.UnixMilli())
	appendList(a, `,"s":[`, l.Looked, (*appender).subscription)
	a.raw("}")
}

func (a *appender) awaited(awaited Awaited) {
	w := awaited.wire()
	a.raw("[").signed(w[0]).raw(",").signed(w[1]).raw("]")
}

// appendByDaemon appends an object whose names are ids, unless it is empty.
func appendByDaemon[T any](a *appender, opening string, all map[protocol.DaemonID]T, value func(*appender, T)) {
	ids := make([]protocol.DaemonID, 0, len(all))
	for id := range all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for i, id := range ids {
		a.separate(opening, i).text(string(id)).raw(":")
		value(a, all[id])
	}
	if len(all) > 0 {
		a.raw("}")
	}
}

// appendList appends an array, unless it is empty.
func appendList[T any](a *appender, opening string, all []T, value func(*appender, T)) {
	for i, element := range all {
		a.separate(opening, i)
		value(a, element)
	}
	if len(all) > 0 {
		a.raw("]")
	}
}
