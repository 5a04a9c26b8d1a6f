package ring

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// memberlist believes whoever has the key: it takes room for a million members and
// 20 MiB where a push/pull declares them, unpacks 40 MiB out of a packet of a few
// kilobytes, and ends the process over a message that is empty, or padded in a way
// that no version of ours pads. So everything that comes for it is looked at before.
// What no member says is dropped; what is sealed with another key, or for another
// cluster, is left to memberlist, which refuses it and says so.

// Kinds of memberlist's messages.
const (
	kindPing     byte = 0
	kindIndirect byte = 1
	kindAck      byte = 2
	kindSuspect  byte = 3
	kindAlive    byte = 4
	kindDead     byte = 5
	kindPushPull byte = 6
	kindCompound byte = 7
	kindUser     byte = 8
	kindSealed   byte = 10
	kindNack     byte = 11
	kindChecked  byte = 12 // by a checksum
	kindError    byte = 13
	kindLabelled byte = 244
)

// sealedVersion is how memberlist seals for members of our versions.
const sealedVersion byte = 1

// inspector looks at what comes for memberlist.
type inspector struct {
	cluster string
	keys    []cipher.AEAD // nil: none
}

func newInspector(cluster string, keys *memberlist.Keyring) (*inspector, error) {
	i := &inspector{cluster: cluster}
	if keys == nil {
		return i, nil
	}
	for _, key := range keys.GetKeys() {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("gossip key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("gossip key: %w", err)
		}
		i.keys = append(i.keys, aead)
	}
	return i, nil
}

// open returns what is sealed; false: with none of our keys, or not at all.
func (i *inspector) open(sealed, authenticated []byte) (text []byte, ours bool, err error) {
	for _, key := range i.keys {
		head := 1 + key.NonceSize()
		if len(sealed) < head+key.Overhead() {
			return nil, false, nil
		}
		text, err := key.Open(nil, sealed[1:head], sealed[head:], authenticated)
		if err != nil {
			continue
		}
		if sealed[0] != sealedVersion {
			return nil, true, fmt.Errorf("%w: sealed in version %d", errDeclared, sealed[0])
		}
		return text, true, nil
	}
	return nil, false, nil
}

// packet looks at a packet; an error: it is not for memberlist.
func (i *inspector) packet(text []byte) error {
	if len(text) >= 2 && text[0] == kindLabelled && len(text) >= 2+int(text[1]) {
		label := text[2 : 2+int(text[1])]
		if string(label) != i.cluster {
			return nil
		}
		text = text[2+len(label):]
	}
	if i.keys != nil {
		opened, ours, err := i.open(text, []byte(i.cluster))
		if err != nil || !ours {
			return err
		}
		text = opened
	}
	if len(text) >= 5 && text[0] == kindChecked {
		text = text[5:]
	}
	if len(text) >= 2 && text[0] == kindCompound {
		return compound(text[1:])
	}
	return command(text)
}

// compound looks at each of the messages that share a packet.
func compound(text []byte) error {
	lengths := text[1:]
	if len(lengths) < 2*int(text[0]) {
		return fmt.Errorf("%w: %d parts are declared", errDeclared, text[0])
	}
	parts := lengths[2*int(text[0]):]
	for n := range int(text[0]) {
		length := int(binary.BigEndian.Uint16(lengths[2*n:]))
		if length > len(parts) {
			return fmt.Errorf("%w: a part of %d bytes is declared", errDeclared, length)
		}
		if err := command(parts[:length]); err != nil {
			return err
		}
		parts = parts[length:]
	}
	return nil
}

// command looks at one message of a packet.
func command(text []byte) error {
	if len(text) == 0 {
		return fmt.Errorf("%w: an empty one", errDeclared)
	}
	switch text[0] {
	case kindPing, kindIndirect, kindAck, kindSuspect, kindAlive, kindDead, kindNack:
		w := walker{next: pieces(text[1:])}
		w.structure()
		return w.err
	case kindUser:
		return nil
	}
	return fmt.Errorf("%w: kind %d in a packet", errDeclared, text[0])
}

// pieces yields a text in pieces.
func pieces(text []byte) func(n int) ([]byte, error) {
	return func(n int) ([]byte, error) {
		if n > len(text) {
			return nil, fmt.Errorf("%w: %d bytes are declared, %d are there", errDeclared, n, len(text))
		}
		piece := text[:n]
		text = text[n:]
		return piece, nil
	}
}

// streamed looks at the message that a stream is for, whose kind has been read, and
// of which next yields what has come.
func streamed(kind byte, next func(n int) ([]byte, error)) error {
	w := walker{next: next}
	switch kind {
	case kindPushPull:
		w.pushPull()
	case kindUser:
		w.userMessage()
	case kindPing, kindAck, kindError:
		w.structure()
	default:
		w.fail("kind %d in a stream", kind)
	}
	return w.err
}

// stream reads the message that comes on a stream and looks at it. next yields more
// of the stream.
func (i *inspector) stream(next func(n int) ([]byte, error)) error {
	kind, err := one(next)
	if err == nil && kind == kindLabelled {
		var foreign bool
		if kind, foreign, err = i.label(next); foreign {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case i.keys == nil:
		return streamed(kind, next)
	case kind != kindSealed:
		return nil
	}
	return i.sealed(next)
}

// label reads a label, and the kind of what is behind it unless it is of another
// cluster.
func (i *inspector) label(next func(n int) ([]byte, error)) (kind byte, foreign bool, err error) {
	size, err := one(next)
	if err != nil {
		return 0, false, err
	}
	label, err := next(int(size))
	if err != nil || string(label) != i.cluster {
		return 0, true, err
	}
	kind, err = one(next)
	return kind, false, err
}

// sealed reads a sealed message, whose kind has been read.
func (i *inspector) sealed(next func(n int) ([]byte, error)) error {
	length, err := next(4)
	if err != nil {
		return err
	}
	authenticated := slices.Concat([]byte{kindSealed}, length, []byte(i.cluster))
	sealed, err := next(int(binary.BigEndian.Uint32(length)))
	if err != nil {
		return err
	}
	text, ours, err := i.open(sealed, authenticated)
	if err != nil || !ours {
		return err
	}
	if len(text) == 0 {
		return fmt.Errorf("%w: an empty one", errDeclared)
	}
	return streamed(text[0], pieces(text[1:]))
}

func one(next func(n int) ([]byte, error)) (byte, error) {
	text, err := next(1)
	if err != nil {
		return 0, err
	}
	return text[0], nil
}

// copies is how many times memberlist holds a message that it reads: sealed, in a
// buffer that doubles, beside what was looked at; opened; and as states of members.
const copies = 5

// inspected is a stream that memberlist reads, of which it is given a message that has
// been looked at. What comes after that is given as it is: memberlist reads one alone.
type inspected struct {
	*stream
	by   *inspector
	in   *bufio.Reader
	once sync.Once
	left []byte
	err  error
}

func (i *inspector) inspect(s *stream) *inspected {
	return &inspected{stream: s, by: i}
}

// Read implements net.Conn.
func (s *inspected) Read(p []byte) (n int, err error) {
	s.once.Do(s.look)
	switch {
	case s.err != nil:
		return 0, s.err
	case s.left == nil:
		return s.in.Read(p)
	}
	n = copy(p, s.left)
	if s.left = s.left[n:]; len(s.left) == 0 {
		s.left = nil
	}
	return n, nil
}

// look reads the message, and takes room for it as it comes, and for what memberlist
// makes of it.
func (s *inspected) look() {
	s.in = bufio.NewReader(s.stream)
	s.err = s.by.stream(s.next)
	switch {
	case errors.Is(s.err, errDeclared):
		s.streams.dropped(dropMalformed)
	case s.err == nil && !s.hold((copies-1)*int64(len(s.left))):
		s.err = s.tooLarge()
	}
	if s.err != nil {
		s.left = nil
	}
}

// next reads n bytes. Room is made as they come, since a length costs nothing to
// declare.
func (s *inspected) next(n int) ([]byte, error) {
	from := len(s.left)
	if n > streamBytes-from {
		return nil, s.tooLarge()
	}
	for len(s.left) < from+n {
		if len(s.left) == cap(s.left) {
			s.left = slices.Grow(s.left, min(from+n-len(s.left), max(messagePiece, len(s.left))))
		}
		read, err := s.in.Read(s.left[len(s.left):min(cap(s.left), from+n)])
		if s.left = s.left[:len(s.left)+read]; err != nil {
			return nil, err
		}
	}
	return s.left[from:], nil
}

// inspecting is how memberlist reaches others: their answers are looked at.
type inspecting struct {
	memberlist.NodeAwareTransport
	by     *inspector
	bounds *streams
}

// DialTimeout implements memberlist.Transport.
func (t *inspecting) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *inspecting) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := t.NodeAwareTransport.DialAddressTimeout(to, timeout)
	if err != nil {
		return nil, err
	}
	return t.by.inspect(t.bounds.dialed(conn)), nil
}
