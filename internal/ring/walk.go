package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// errDeclared is wrapped by the errors of what declares more than it has, or what no
// member says.
var errDeclared = errors.New("not a message of a member")

// leastState is less than any member's state takes in a push/pull, where the names
// of its fields alone are 42 bytes. memberlist takes some 112 for each.
const leastState = 64

// deepest is how far values of memberlist's may lie in one another: a structure has
// none but texts and numbers.
const deepest = 2

// walker goes over MessagePack as memberlist writes it, and takes nothing for there
// that has not come. It keeps the first fault and yields zero values after it.
type walker struct {
	next   func(n int) ([]byte, error)
	walked int
	err    error
}

func (w *walker) fail(what string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: "+what, append([]any{errDeclared}, args...)...)
	}
}

func (w *walker) bytes(n int) []byte {
	if w.err != nil {
		return nil
	}
	text, err := w.next(n)
	if err != nil {
		w.err = err
		return nil
	}
	w.walked += n
	return text
}

func (w *walker) byte() byte {
	if text := w.bytes(1); w.err == nil {
		return text[0]
	}
	return 0
}

// number reads a number of so many bytes.
func (w *walker) number(size int) uint64 {
	var whole [8]byte
	copy(whole[8-size:], w.bytes(size))
	return binary.BigEndian.Uint64(whole[:])
}

// value is what begins a value.
type value struct {
	kind   kind
	number uint64 // of a positive number
	length int    // in bytes, values, or pairs of values
}

type kind uint8

const (
	kindOther kind = iota // nothing follows that has not been walked over
	kindNumber
	kindText
	kindList
	kindMap
)

// value reads the beginning of a value; its bytes or values are next.
func (w *walker) value() value {
	switch c := w.byte(); {
	case c < 0x80:
		return value{kind: kindNumber, number: uint64(c)}
	case c < 0x90:
		return value{kind: kindMap, length: int(c & 0x0f)}
	case c < 0xa0:
		return value{kind: kindList, length: int(c & 0x0f)}
	case c < 0xc0:
		return value{kind: kindText, length: int(c & 0x1f)}
	case c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3: // below zero, nil, false, true
		return value{}
	case c >= 0xc4 && c <= 0xc6:
		return value{kind: kindText, length: int(w.number(1 << (c - 0xc4)))}
	case c == 0xca, c == 0xcb:
		w.bytes(4 << (c - 0xca))
		return value{}
	case c >= 0xcc && c <= 0xcf:
		return value{kind: kindNumber, number: w.number(1 << (c - 0xcc))}
	case c >= 0xd0 && c <= 0xd3:
		return signed(w.number(1<<(c-0xd0)), 1<<(c-0xd0))
	case c >= 0xd9 && c <= 0xdb:
		return value{kind: kindText, length: int(w.number(1 << (c - 0xd9)))}
	case c == 0xdc, c == 0xdd:
		return value{kind: kindList, length: int(w.number(2 << (c - 0xdc)))}
	case c == 0xde, c == 0xdf:
		return value{kind: kindMap, length: int(w.number(2 << (c - 0xde)))}
	default:
		w.fail("a value of kind %#x", c)
		return value{}
	}
}

// signed is a number of so many bytes that may be below zero.
func signed(number uint64, size int) value {
	if number>>(8*size-1) != 0 {
		return value{}
	}
	return value{kind: kindNumber, number: number}
}

// skip walks over a value.
func (w *walker) skip(depth int) {
	v := w.value()
	values := 0
	switch v.kind {
	case kindText:
		w.bytes(v.length)
	case kindList:
		values = v.length
	case kindMap:
		values = 2 * v.length
	}
	if values > 0 && depth >= deepest {
		w.fail("values in one another")
	}
	for i := 0; i < values && w.err == nil; i++ {
		w.skip(depth + 1)
	}
}

// structure walks over a map and returns the numbers of some of its fields, 0 where
// they are missing.
func (w *walker) structure(fields ...string) []uint64 {
	numbers := make([]uint64, len(fields))
	v := w.value()
	if v.kind != kindMap {
		w.fail("no structure")
	}
	for n := 0; n < v.length && w.err == nil; n++ {
		name := w.value()
		if name.kind != kindText {
			w.fail("a field without a name")
		}
		field := slices.Index(fields, string(w.bytes(name.length)))
		if field < 0 {
			w.skip(1)
			continue
		}
		number := w.value()
		if number.kind != kindNumber {
			w.fail("a wrong %s", fields[field])
		}
		numbers[field] = number.number // memberlist takes the last one as well
	}
	return numbers
}

// pushPull walks over what memberlist reads of a push/pull: the states of members,
// and what our delegate says.
func (w *walker) pushPull() {
	declared := w.structure("Nodes", "UserStateLen")
	for n := uint64(0); n < declared[0] && w.err == nil; n++ {
		from := w.walked
		w.structure()
		if w.walked-from < leastState {
			w.fail("a state of a member of %d bytes", w.walked-from)
		}
	}
	w.rest(declared[1])
}

// userMessage walks over a message of our delegate's.
func (w *walker) userMessage() { w.rest(w.structure("UserMsgLen")[0]) }

func (w *walker) rest(declared uint64) {
	if declared > streamBytes {
		w.fail("%d bytes are declared", declared)
		return
	}
	w.bytes(int(declared))
}
