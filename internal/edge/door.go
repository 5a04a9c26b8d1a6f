package edge

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/edge/handshake"
	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/edge/socket"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// door is the HTTP side: it lets daemons in and turns requests into
// connections. It counts the open sockets and waits for their end.
type door struct {
	access  *access.Control
	cfg     *Config
	crew    *lifecycle.Crew
	metrics *metrics
	audit   *audit.Log
	panics  *rescue.Notes
	logger  *slog.Logger

	// services and events are nil until the edge can serve.
	services atomic.Pointer[services]
	events   atomic.Pointer[events]
	draining atomic.Bool // for good
	isolated atomic.Bool // for as long as NATS is lost to this edge alone
	lost     atomic.Bool // for as long as NATS is lost, as the directory was told
	drained  atomic.Bool // for as long as an operator wants it

	mu     sync.Mutex
	open   map[*connection]struct{}
	taken  int           // open connections and upgrades under way
	seated int           // open connections that have authenticated
	empty  chan struct{} // to be closed when taken is 0; nil if nobody waits
}

func newDoor(cfg *Config, crew *lifecycle.Crew, m *metrics, records *audit.Log, panics *rescue.Notes, logger *slog.Logger) (*door, error) {
	refused := func(why access.Refusal, from netip.Addr) {
		m.refused.Of(refusedConnect(why)).Inc()
		records.Write(audit.ConnectionRefused, string(why), "address", from.String())
	}
	control, err := access.New(cfg.Listen.Access, "", cfg.Listen.RateConnectsPerIP, refused, logger, m.registry)
	if err != nil {
		return nil, err
	}
	d := &door{access: control, cfg: cfg, crew: crew, metrics: m, audit: records, panics: panics, logger: logger, open: make(map[*connection]struct{})}
	control.OnChange(d.endForbidden)
	m.watchDoor(d)
	return d, nil
}

func (d *door) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(d.cfg.Listen.WSPath, d.upgrade)
	if d.cfg.Listen.WSPath != protocol.PathAlias {
		mux.HandleFunc(protocol.PathAlias, d.upgrade)
	}
	mux.HandleFunc(httpevents.Path, d.eventsRequest)
	return mux
}

// upgrade turns a request into a connection, or says why not.
func (d *door) upgrade(w http.ResponseWriter, r *http.Request) {
	addr := d.access.Client(r)
	if !d.access.Permits(addr) {
		d.refuse(w, addr, refusedAddress, http.StatusForbidden, "connections from this address are not allowed", 0)
		return
	}
	if !isUpgrade(r) {
		d.explain(w)
		return
	}
	svc := d.services.Load()
	now := time.Now()
	switch {
	case svc == nil || d.leaving():
		d.refuse(w, addr, refusedNotReady, http.StatusServiceUnavailable, "this edge takes no connections at the moment", retryAfter)
	case !d.access.Admits(addr, now):
		d.refuse(w, addr, refusedRate, http.StatusTooManyRequests, "too many connections from this address", 1)
	case !d.reserve():
		d.refuse(w, addr, refusedFull, http.StatusServiceUnavailable, "this edge is full", retryAfter)
	case !access.Of(r.Context()).Belongs(addr):
		d.leave(nil)
		d.refuse(w, addr, refusedConnections, http.StatusTooManyRequests, "this address has as many connections as it may", retryAfter)
	default:
		d.receive(w, r, svc, addr, now)
	}
}

// receive makes a connection of a request for which a place is reserved.
func (d *door) receive(w http.ResponseWriter, r *http.Request, svc *services, addr netip.Addr, now time.Time) {
	entered := false
	defer func() {
		if !entered {
			d.leave(nil)
		}
	}()
	s, err := d.accept(w, r, addr)
	if errors.Is(err, socket.ErrPanicked) {
		panic(http.ErrAbortHandler) // nothing can be answered
	}
	if err != nil {
		d.logger.Debug("upgrade failed", "address", addr.String(), "error", err)
		return
	}
	c := newConnection(svc, protocol.SessionID(uuid.NewString()), s, access.Of(r.Context()), addr, now)
	entered = true
	d.enter(c)
}

// accept upgrades the request, on another goroutine's stack where this one is
// net/http's: that is a new one for each connection.
func (d *door) accept(w http.ResponseWriter, r *http.Request, addr netip.Addr) (s *socket.Socket, err error) {
	cfg := d.cfg.socket(d.crew, func(value any) { d.panics.Panicked(partSocket, value, "address", addr.String()) })
	if handshake.OnCrew(w) {
		return socket.Accept(w, r, cfg)
	}
	done := make(chan struct{})
	d.crew.Go(func() {
		defer close(done)
		s, err = socket.Accept(w, r, cfg)
	})
	<-done
	return s, err
}

// leaving reports whether newcomers are to go elsewhere.
func (d *door) leaving() bool { return d.draining.Load() || d.isolated.Load() || d.drained.Load() }

// unavailable reports what the directory is told: that newcomers should not come.
func (d *door) unavailable() bool { return d.draining.Load() || d.lost.Load() || d.drained.Load() }

// sendAway asks every daemon to reconnect, spread over a period.
func (d *door) sendAway(period time.Duration) {
	all := d.connections()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, c := range all {
		c.reconnect("draining", period*time.Duration(i)/time.Duration(len(all)))
	}
}

// reserve takes a socket in, unless whoever authenticated on it would find no
// seat.
func (d *door) reserve() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seated >= d.cfg.Listen.MaxConnections {
		return false
	}
	d.taken++
	return true
}

// seat counts the connection among those that have authenticated, if there is
// room for one more. So nobody without a token keeps a daemon out.
func (d *door) seat(c *connection) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seated >= d.cfg.Listen.MaxConnections {
		return false
	}
	d.seated++
	c.seated = true
	c.accepted.Authenticated()
	return true
}

// endForbidden ends the connections from addresses that are not allowed any
// more.
func (d *door) endForbidden() {
	for _, c := range d.connections() {
		if !d.access.Permits(c.addr) {
			c.end(protocol.CloseSessionTerminated, "connections from this address are not allowed")
		}
	}
}

// enter has the socket served.
func (d *door) enter(c *connection) {
	d.mu.Lock()
	d.open[c] = struct{}{}
	d.mu.Unlock()
	c.socket.Serve(c)
	if d.draining.Load() {
		// Let in just before; nobody may have seen it to send it away.
		c.end(protocol.CloseGoingAway, "the edge is shutting down")
	}
	if !d.access.Permits(c.addr) {
		// The same of a change of the lists.
		d.endForbidden()
	}
}

// leave gives the place back; c is nil where no connection came of it.
func (d *door) leave(c *connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, c)
	d.taken--
	if c != nil && c.seated {
		d.seated--
	}
	if d.taken == 0 && d.empty != nil {
		close(d.empty)
		d.empty = nil
	}
}

// gone is closed when no socket is left. It is called once, when none comes in
// any more.
func (d *door) gone() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := make(chan struct{})
	if d.taken == 0 {
		close(gone)
	} else {
		d.empty = gone
	}
	return gone
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken
}

// connections returns all open connections.
func (d *door) connections() []*connection {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*connection, 0, len(d.open))
	for c := range d.open {
		all = append(all, c)
	}
	return all
}

func isUpgrade(r *http.Request) bool {
	for _, value := range r.Header.Values("Upgrade") {
		if strings.Contains(strings.ToLower(value), "websocket") {
			return true
		}
	}
	return false
}

// explain answers a plain request.
func (d *door) explain(w http.ResponseWriter) {
	w.Header().Set("Upgrade", "websocket")
	w.Header().Add("Connection", "Upgrade") // beside what says that no body is waited for
	writeJSON(w, http.StatusUpgradeRequired, map[string]any{
		"error":    "this is a WebSocket endpoint: connect with an upgrade",
		"protocol": protocol.Name,
		"version":  protocol.Version,
		"paths":    []string{d.cfg.Listen.WSPath, protocol.PathAlias},
	})
}

// retryAfter is what refused clients are told to wait at least, in seconds; up
// to as much again is added, so that they do not come back together.
const retryAfter = 2

func (d *door) refuse(w http.ResponseWriter, addr netip.Addr, why refusedConnect, status int, message string, wait int) {
	d.metrics.refused.Of(why).Inc()
	d.audit.Write(audit.ConnectionRefused, string(why), "address", addr.String())
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(wait+rand.IntN(wait+1)))
	}
	writeJSON(w, status, map[string]any{"error": message})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
