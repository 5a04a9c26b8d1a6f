package ring

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Messages of the directory go to each member on one stream that stays open:
// memberlist dials for every message, which with a hundred members and a batch
// each 50 ms is 2,000 dials a second for every edge. Such a stream is
//
//	kind(1) version(1) salt(16) length(1) cluster name
//
// and then message after message, each
//
//	length(4) message
//
// and each answered, once it has been taken in, with one byte: a stream that
// leads nowhere is noticed by the answer that does not come. With gossip keys the
// messages are sealed by AES-GCM with a key of the stream's own, derived from the
// first gossip key and the salt, and numbered: none is taken twice, in another
// order, or from another stream, and no stream that was recorded is taken again.
// Members that do not know this kind are not sent
// it: the metadata say who does.
const (
	// standingKind is no first byte of memberlist's.
	standingKind    byte = 0xF5
	standingVersion byte = 1
	saltBytes            = 16
	// answered is the answer to a message.
	answered byte = 0x06
	// sendTimeout bounds each message with its answer.
	sendTimeout = 5 * time.Second
	// messagePiece is for what room is taken first; it grows with what arrives.
	messagePiece = 64 << 10
	// maxSalts is how many streams are remembered: far more than may stay open, so
	// that whoever records some and opens them again takes no member's place.
	maxSalts = 16 * maxStanding
)

// sealing of one stream; nil where there are no keys.
type sealing struct {
	aead cipher.AEAD
	sent uint64 // messages so far
}

func newSealing(key, salt []byte, cluster string) (*sealing, error) {
	derived, err := hkdf.Key(sha256.New, key, salt, "daemon-gateway directory stream 1 "+cluster, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealing{aead: aead}, err
}

// overhead is what a sealed message has beside its text.
func (s *sealing) overhead() int {
	if s == nil {
		return 0
	}
	return s.aead.Overhead()
}

func (s *sealing) nonce() []byte {
	nonce := make([]byte, s.aead.NonceSize())
	binary.BigEndian.PutUint64(nonce[len(nonce)-8:], s.sent)
	return nonce
}

// seal appends the next message.
func (s *sealing) seal(dst, message []byte) []byte {
	if s == nil {
		return append(dst, message...)
	}
	dst = s.aead.Seal(dst, s.nonce(), message, nil)
	s.sent++
	return dst
}

// open returns the next message, in the place of what it was sealed in.
func (s *sealing) open(sealed []byte) ([]byte, error) {
	if s == nil {
		return sealed, nil
	}
	message, err := s.aead.Open(sealed[:0], s.nonce(), sealed, nil)
	if err == nil {
		s.sent++
	}
	return message, err
}

// standing is the way to one member. It belongs to the goroutine of its sender.
type standing struct {
	cluster string
	keys    *memberlist.Keyring // nil: none
	dial    func() (net.Conn, error)

	conn net.Conn // nil: not open
	seal *sealing
	out  []byte
}

// send sends a message and waits until it has been taken in. A stream that turns
// out to be gone is replaced, once.
func (s *standing) send(message []byte) error {
	if s.conn != nil {
		err := s.exchange(message)
		if err == nil {
			return nil
		}
		s.close()
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return err // a new one would wait as long
		}
	}
	if err := s.open(); err != nil {
		return err
	}
	err := s.exchange(message)
	if err != nil {
		s.close()
	}
	return err
}

func (s *standing) open() error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // it never fails
	s.conn, s.seal = conn, nil
	if s.keys != nil {
		if s.seal, err = newSealing(s.keys.GetPrimaryKey(), salt, s.cluster); err != nil {
			s.close()
			return err
		}
	}
	head := append([]byte{standingKind, standingVersion}, salt...)
	s.out = append(append(head, byte(len(s.cluster))), s.cluster...)
	return nil
}

// exchange sends what is in out, and then the message, and reads the answer.
func (s *standing) exchange(message []byte) error {
	if err := s.conn.SetDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	s.out = binary.BigEndian.AppendUint32(s.out, uint32(len(message)+s.seal.overhead()))
	s.out = s.seal.seal(s.out, message)
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > messageBytes/4 {
		s.out = nil // most messages are small, and there is one of these for each member
	}
	if err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(s.conn, answer[:]); err != nil {
		return fmt.Errorf("wait for the answer: %w", err)
	}
	if answer[0] != answered {
		return fmt.Errorf("answered with %#x", answer[0])
	}
	return nil
}

func (s *standing) close() {
	if s == nil || s.conn == nil {
		return
	}
	_ = s.conn.Close()
	s.conn, s.out = nil, nil
}

// receiver takes in the messages of the streams that others keep open.
type receiver struct {
	cluster   string
	keys      *memberlist.Keyring // nil: none
	inspector *inspector          // of what memberlist is given
	bounds    *streams
	take      func(message []byte) // copies
	logger    *slog.Logger

	mu    sync.Mutex
	salts map[[saltBytes]byte]struct{} // of members' streams, the last of them; guarded by mu
	order [][saltBytes]byte            // of salts; guarded by mu
}

// isNew reports whether a member has not opened a stream with the salt before.
func (r *receiver) isNew(salt []byte) bool {
	one := [saltBytes]byte(salt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.salts[one]; known {
		return false
	}
	if r.salts == nil {
		r.salts = make(map[[saltBytes]byte]struct{})
	}
	if len(r.order) == maxSalts {
		delete(r.salts, r.order[0])
		r.order = r.order[1:]
	}
	r.salts[one] = struct{}{}
	r.order = append(r.order, one)
	return true
}

var (
	errStranger = errors.New("not a stream of a member")
	errRecorded = fmt.Errorf("%w: it was opened before", errStranger)
)

// serve takes in messages until the stream ends.
func (r *receiver) serve(s *stream) {
	defer func() { _ = s.Close() }()
	in := &inward{receiver: r, stream: s, in: bufio.NewReaderSize(s.Conn, 512)}
	err := in.first()
	for err == nil {
		err = in.following()
	}
	if errors.Is(err, errStranger) {
		r.bounds.dropped(dropMalformed)
	}
	r.logger.Debug("stream of a member has ended", "address", s.from, "error", err)
}

// inward is a stream that is being served.
type inward struct {
	*receiver
	stream *stream
	in     *bufio.Reader
	seal   *sealing
}

// first takes in the first message, which shows that the sender has a key.
func (i *inward) first() error {
	if err := i.stream.SetDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	salt, err := i.head()
	if err != nil {
		return err
	}
	return i.next(func(sealed []byte) (message []byte, err error) {
		if i.seal, message, err = i.recognise(salt, sealed); err == nil && !i.stream.stay() {
			err = errStreamTooLarge
		}
		return message, err
	})
}

// following waits for a message, for as long as the member is there, and takes it
// in.
func (i *inward) following() error {
	// If the member's machine is gone, TCP finds out.
	if err := i.stream.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if _, err := i.in.Peek(1); err != nil {
		return err
	}
	if err := i.stream.SetDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return i.next(i.seal.open)
}

// head reads what comes before the first message.
func (i *inward) head() (salt []byte, err error) {
	head := make([]byte, 1+saltBytes+1)
	if _, err := io.ReadFull(i.in, head); err != nil {
		return nil, err
	}
	name := make([]byte, head[len(head)-1])
	if _, err := io.ReadFull(i.in, name); err != nil {
		return nil, err
	}
	if head[0] != standingVersion || string(name) != i.cluster {
		return nil, errStranger
	}
	return head[1 : 1+saltBytes], nil
}

// next reads a message, opens it, takes it in and answers.
func (i *inward) next(open func(sealed []byte) (message []byte, err error)) error {
	var length [4]byte
	if _, err := io.ReadFull(i.in, length[:]); err != nil {
		return err
	}
	sealed, err := i.read(int(binary.BigEndian.Uint32(length[:])))
	defer func() { i.bounds.bytes.Give(i.stream.from, int64(cap(sealed))) }()
	if err != nil {
		return err
	}
	message, err := open(sealed)
	if err != nil {
		return err
	}
	i.take(message)
	_, err = i.stream.Write([]byte{answered})
	return err
}

// read reads n bytes, and takes room for them as they arrive, since a length costs
// nothing to declare. The caller gives back what it has taken, the capacity of what
// it returns, also with an error.
func (i *inward) read(n int) (text []byte, err error) {
	for len(text) < n {
		if len(text) == cap(text) {
			size := min(n, max(messagePiece, 2*cap(text)))
			if n > streamBytes || !i.bounds.bytes.Take(i.stream.from, int64(size-cap(text))) {
				i.bounds.dropped(dropStreamBytes)
				return text, errStreamTooLarge
			}
			text = append(make([]byte, 0, size), text...)
		}
		read, err := i.in.Read(text[len(text):cap(text)])
		text = text[:len(text)+read]
		if err != nil {
			return text, err
		}
	}
	return text, nil
}

// recognise finds the key that the first message was sealed with: while keys are
// rotated members have different ones in front.
func (r *receiver) recognise(salt, sealed []byte) (*sealing, []byte, error) {
	if r.keys == nil {
		return nil, sealed, nil
	}
	for _, key := range r.keys.GetKeys() {
		seal, err := newSealing(key, salt, r.cluster)
		if err != nil {
			return nil, nil, err
		}
		// A copy: what does not fit is overwritten.
		if message, err := seal.open(append([]byte(nil), sealed...)); err == nil {
			if !r.isNew(salt) {
				return nil, nil, errRecorded
			}
			return seal, message, nil
		}
	}
	return nil, nil, errStranger
}
