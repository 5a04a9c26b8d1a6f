package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// openTimeout bounds all that comes before the first event.
const openTimeout = 2 * time.Minute

// daemon is one connection.
type daemon struct {
	fleet        *Fleet
	index        int
	url          *url.URL
	id           protocol.DaemonID
	orchestrator protocol.OrchestratorID
	token        string

	wire *wire // set by open

	// Owned by read, and read after its end.
	seen                 []uint64 // a bit for each sequence number that has come
	highest              int64
	arrivals             []arrival
	repeated, disordered int

	mu   sync.Mutex
	acks []byte // ids, quoted and with a comma before each; guarded by mu
}

// open connects, authenticates and subscribes.
func (d *daemon) open(ctx context.Context) error {
	dialer := net.Dialer{Timeout: openTimeout, LocalAddr: d.source()}
	conn, err := dialer.DialContext(ctx, "tcp", d.url.Host)
	if err != nil {
		return err
	}
	if config := d.fleet.cfg.TLS; config != nil {
		conn = tls.Client(conn, config)
	}
	d.wire = newWire(conn)
	if err := conn.SetDeadline(time.Now().Add(openTimeout)); err != nil {
		return err
	}
	if err := d.wire.upgrade(d.url); err != nil {
		return err
	}
	auth := fmt.Sprintf(`{"accessToken":%q,"daemonId":%q,"orchestratorId":%q}`, d.token, d.id, d.orchestrator)
	if err := d.ask(protocol.TypeAuth, auth, protocol.TypeAuthSuccess); err != nil {
		return err
	}
	answer := protocol.TypeSubscribed
	if d.fleet.cfg.Unconfirmed {
		answer = ""
	}
	// What is published is of this type; all types would be asked for with "*",
	// which not everything that is measured knows.
	if err := d.ask(protocol.TypeSubscribe, `{"eventTypes":["message.received"]}`, answer); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// source spreads daemons over loopback addresses: one has ports for less than
// 28,000.
func (d *daemon) source() net.Addr {
	const perAddress = 10_000
	host, _, _ := net.SplitHostPort(d.url.Host)
	if ip := net.ParseIP(host); d.index < perAddress || ip == nil || !ip.IsLoopback() {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+d.index/perAddress))}
}

// ask sends a message and waits for the answer of this type; "": for none.
func (d *daemon) ask(message protocol.MessageType, payload string, answer protocol.MessageType) error {
	if err := d.send(message, []byte(payload)); err != nil || answer == "" {
		return err
	}
	for {
		text, err := d.wire.next()
		if err != nil {
			return fmt.Errorf("after %s: %w", message, err)
		}
		switch {
		case isMessage(text, answer):
			return nil
		case isMessage(text, protocol.TypeEvent):
			d.event(text, time.Now())
		case isMessage(text, protocol.TypeError), isMessage(text, protocol.TypeAuthError):
			return fmt.Errorf("%s is answered with %s", message, text)
		}
	}
}

func (d *daemon) send(message protocol.MessageType, payload []byte) error {
	text := make([]byte, 0, 160+len(payload))
	text = fmt.Appendf(text, `{"type":%q,"id":"m-%d","timestamp":"`, message, d.index)
	text = time.Now().UTC().AppendFormat(text, "2006-01-02T15:04:05.000Z")
	text = append(text, `","payload":`...)
	text = append(append(text, payload...), '}')
	return d.wire.write(text)
}

// isMessage looks for the type where messages have it: at the beginning.
func isMessage(text []byte, want protocol.MessageType) bool {
	const typed = `{"type":"`
	rest, ok := bytes.CutPrefix(text, []byte(typed))
	return ok && len(rest) > len(want) && string(rest[:len(want)]) == string(want) && rest[len(want)] == '"'
}

// read takes what comes until the connection ends.
func (d *daemon) read() {
	for {
		text, err := d.wire.next()
		if err != nil {
			if !d.fleet.closing.Load() {
				d.fleet.fail(fmt.Errorf("daemon %d: %w: %w", d.index, errLost, err))
			}
			return
		}
		if isMessage(text, protocol.TypeEvent) {
			d.event(text, time.Now())
		}
	}
}

// What publish puts into an event, and where its id stands in the message.
const (
	fieldAt       = `"at":`
	fieldSequence = `"n":`
	fieldID       = `"eventId":"`
)

// event notes that an event has come, and that it is to be acknowledged.
func (d *daemon) event(text []byte, now time.Time) {
	at, sequence := numberAfter(text, fieldAt), numberAfter(text, fieldSequence)
	if d.first(sequence) {
		d.arrivals = append(d.arrivals, arrival{at, time.Duration(now.UnixNano() - at)})
		d.fleet.came.Add(1)
		select {
		case d.fleet.arrivals <- struct{}{}:
		default:
		}
	}
	if _, rest, found := bytes.Cut(text, []byte(fieldID)); found {
		if id, _, found := bytes.Cut(rest, []byte(`"`)); found {
			d.acknowledge(id)
		}
	}
}

// first notes a sequence number, and reports whether it is new.
func (d *daemon) first(n int64) bool {
	word, bit := int(n/64), uint64(1)<<(n%64)
	for word >= len(d.seen) {
		d.seen = append(d.seen, 0)
	}
	if d.seen[word]&bit != 0 {
		d.repeated++
		return false
	}
	d.seen[word] |= bit
	if n < d.highest {
		d.disordered++
	}
	d.highest = max(d.highest, n)
	return true
}

func numberAfter(text []byte, field string) (n int64) {
	_, rest, _ := bytes.Cut(text, []byte(field))
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int64(c-'0')
	}
	return n
}

func (d *daemon) acknowledge(id []byte) {
	d.mu.Lock()
	first := len(d.acks) == 0
	d.acks = append(append(append(d.acks, `,"`...), id...), '"')
	d.mu.Unlock()
	if first {
		d.fleet.mu.Lock()
		d.fleet.waiting = append(d.fleet.waiting, d)
		d.fleet.mu.Unlock()
	}
}

func (d *daemon) sendAcks() {
	d.mu.Lock()
	payload := append([]byte(`{"eventIds":[`), d.acks[1:]...)
	d.acks = d.acks[:0]
	d.mu.Unlock()
	_ = d.send(protocol.TypeAck, append(payload, "]}"...)) // its reader says why it cannot
}

func (d *daemon) sendHeartbeat() {
	_ = d.send(protocol.TypeHeartbeat, []byte(`{"status":`+strconv.Quote(string(protocol.StatusActive))+`}`)) // see sendAcks
}

// reset ends the connection so that its port is free at once.
func (d *daemon) reset() {
	if d.wire == nil {
		return
	}
	conn := d.wire.conn
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn() // nothing is said at the end
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the connection may be gone
	}
	_ = conn.Close()
}
