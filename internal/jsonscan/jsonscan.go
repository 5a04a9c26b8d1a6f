// Package jsonscan takes JSON apart in one pass over its bytes, without
// allocating and without reflection. Events, acks and cursors go through it, which
// are nearly all that the gateway reads.
//
// It is quick and not complete. It doubts what is rare instead of judging it,
// and its callers then ask encoding/json, which still is what says what is
// valid, what it means and what is wrong with it. Doubt costs time and nothing
// else. So the law is: whatever is read here without doubt, encoding/json reads
// with the same result. Fuzz tests check that, here and in the callers.
//
// Doubted are
//   - a name with an escape, since it may spell any other name,
//   - nesting deeper than 64, far below where encoding/json refuses it,
//   - everything that is no JSON.
//
// Names that occur twice are for callers to notice, who know which ones matter:
// the last one counts with encoding/json. Whether text is valid UTF-8 is for
// them as well: encoding/json replaces what is not.
package jsonscan

import (
	"bytes"
	"encoding/binary"
)

// doubt is returned instead of an index into the text. No text has a byte
// there, so that whoever goes on from it comes to doubt again.
const doubt = -1

const maxDepth = 64

// Container reads the elements of one object or array in turn.
type Container struct {
	text    []byte
	at      int // where the next element begins
	closing byte
	whole   bool
}

// Object returns a reader of the object that is all of text.
func Object(text []byte) Container { return open(text, '{', '}') }

// Array returns a reader of the array that is all of text.
func Array(text []byte) Container { return open(text, '[', ']') }

func open(text []byte, opening, closing byte) Container {
	c := Container{text: text, at: doubt, closing: closing}
	if i := skipSpace(text, 0); i < len(text) && text[i] == opening {
		c.at = skipSpace(text, i+1)
		c.end(c.at)
	}
	return c
}

// Next returns the next element, its name "" in an array. Both are parts of the
// text. When it returns false there are no more, or there is doubt: Whole tells
// which.
func (c *Container) Next() (name, value []byte, more bool) {
	if c.whole || c.at == doubt {
		return nil, nil, false
	}
	start := c.at
	if c.closing == '}' {
		stop := plainEnd(c.text, start)
		if stop == doubt {
			c.at = doubt
			return nil, nil, false
		}
		name = c.text[start+1 : stop-1]
		start = afterColon(c.text, stop)
	}
	stop := valueEnd(c.text, start, 1)
	if stop == doubt {
		c.at = doubt
		return nil, nil, false
	}
	value = c.text[start:stop:stop]
	c.at = skipSpace(c.text, stop)
	switch {
	case c.end(c.at):
	case c.at < len(c.text) && c.text[c.at] == ',':
		c.at = skipSpace(c.text, c.at+1)
	default:
		c.at = doubt
		return nil, nil, false
	}
	return name, value, true
}

// end notes whether the container ends at i, and the text with it.
func (c *Container) end(i int) bool {
	if i >= len(c.text) || c.text[i] != c.closing {
		return false
	}
	c.at = doubt
	c.whole = skipSpace(c.text, i+1) == len(c.text)
	return true
}

// Whole reports whether all of the text has been read, without doubt.
func (c *Container) Whole() bool { return c.whole }

// Text returns what stands in a value that is a string without escapes. ok is
// false for any other value.
func Text(value []byte) (text []byte, ok bool) {
	if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

// Uint returns a value that is a number of at most 19 digits and nothing else.
// ok is false for any other value.
func Uint(value []byte) (n uint64, ok bool) {
	if len(value) == 0 || len(value) > 19 { // what 64 bits hold, whatever the digits
		return 0, false
	}
	for _, c := range value {
		if !isDigit(c) {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, true
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
		i++
	}
	return i
}

// at returns the byte at i; 0, which is no part of JSON, where there is none.
func at(text []byte, i int) byte {
	if uint(i) < uint(len(text)) {
		return text[i]
	}
	return 0
}

// valueEnd returns where the value ends that begins at i. It stands in depth
// containers.
func valueEnd(text []byte, i, depth int) int {
	switch c := at(text, i); c {
	case '"':
		return stringEnd(text, i)
	case '{', '[':
		return containerEnd(text, i, depth)
	case 't':
		return wordEnd(text, i, "true")
	case 'f':
		return wordEnd(text, i, "false")
	case 'n':
		return wordEnd(text, i, "null")
	default:
		return numberEnd(text, i)
	}
}

func containerEnd(text []byte, i, depth int) int {
	if depth >= maxDepth {
		return doubt
	}
	isObject, closing := text[i] == '{', text[i]+2 // in ASCII, of both kinds
	if i = skipSpace(text, i+1); at(text, i) == closing {
		return i + 1
	}
	for {
		if isObject {
			i = afterColon(text, stringEnd(text, i))
		}
		i = valueEnd(text, i, depth+1)
		if i == doubt {
			return doubt
		}
		i = skipSpace(text, i)
		switch at(text, i) {
		case closing:
			return i + 1
		case ',':
			i = skipSpace(text, i+1)
		default:
			return doubt
		}
	}
}

// afterColon returns where the value begins whose name ended before i.
func afterColon(text []byte, i int) int {
	if i == doubt {
		return doubt
	}
	if i = skipSpace(text, i); at(text, i) != ':' {
		return doubt
	}
	return skipSpace(text, i+1)
}

// plainEnd is stringEnd for one that has no escape.
func plainEnd(text []byte, i int) int {
	if at(text, i) != '"' {
		return doubt
	}
	i = skipPlain(text, i+1)
	if at(text, i) != '"' {
		return doubt
	}
	return i + 1
}

// stringEnd returns where the string ends that begins at i.
func stringEnd(text []byte, i int) int {
	if at(text, i) != '"' {
		return doubt
	}
	i++
	for {
		i = skipPlain(text, i)
		switch at(text, i) {
		case '"':
			return i + 1
		case '\\':
			if i = escapeEnd(text, i); i == doubt {
				return doubt
			}
		default: // a control character, or the end
			return doubt
		}
	}
}

func escapeEnd(text []byte, i int) int {
	switch at(text, i+1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		for digit := i + 2; digit < i+6; digit++ {
			if !isHex(at(text, digit)) {
				return doubt
			}
		}
		return i + 6
	}
	return doubt
}

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

// skipPlain returns where the next quote, backslash or control character is, or
// the end of the text. It looks at eight bytes at a time.
func skipPlain(text []byte, i int) int {
	for i+8 <= len(text) && !anySpecial(binary.LittleEndian.Uint64(text[i:])) {
		i += 8
	}
	for i < len(text) && text[i] >= ' ' && text[i] != '"' && text[i] != '\\' {
		i++
	}
	return i
}

// anySpecial reports whether one of the eight bytes is a quote, a backslash or a
// control character. For a byte b, (b - n) &^ b has its highest bit set exactly
// if b < n, for n up to 128; to be equal is to be less than 1 after an
// exclusive or. A byte that is special may make the one above it seem so, too,
// which changes nothing in the answer.
func anySpecial(eight uint64) bool {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	quote, backslash := eight^'"'*ones, eight^'\\'*ones
	return ((eight-' '*ones)&^eight|(quote-ones)&^quote|(backslash-ones)&^backslash)&highest != 0
}

func wordEnd(text []byte, i int, word string) int {
	if len(text)-i < len(word) || string(text[i:i+len(word)]) != word {
		return doubt
	}
	return i + len(word)
}

// numberEnd returns where the number ends that begins at i.
func numberEnd(text []byte, i int) int {
	if at(text, i) == '-' {
		i++
	}
	if at(text, i) == '0' {
		i++ // no digit may follow
	} else if i = digitsEnd(text, i); i == doubt {
		return doubt
	}
	if at(text, i) == '.' {
		if i = digitsEnd(text, i+1); i == doubt {
			return doubt
		}
	}
	if c := at(text, i); c == 'e' || c == 'E' {
		i++
		if sign := at(text, i); sign == '+' || sign == '-' {
			i++
		}
		return digitsEnd(text, i)
	}
	return i
}

// digitsEnd returns where the digits end of which there is one at least.
func digitsEnd(text []byte, i int) int {
	if !isDigit(at(text, i)) {
		return doubt
	}
	for isDigit(at(text, i)) {
		i++
	}
	return i
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
