package edge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/share"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// failure is an answer other than success. Its codes are those of Neolith's own
// endpoint, and two more for what that one never said.
type failure struct {
	status  int
	code    string
	message string
	wait    time.Duration // what Retry-After says; 0: nothing
}

const (
	codeUnauthorized = "UNAUTHORIZED"
	codeValidation   = "VALIDATION_ERROR"
	codeInternal     = "INTERNAL_ERROR"
	codeForbidden    = "FORBIDDEN"    // added
	codeRateLimited  = "RATE_LIMITED" // added
)

const (
	// concurrentRequests bounds the requests that the log is asked for at once, of
	// which each partition has its share beside requestsOfEach of its own; further
	// ones are told to come again. What clients take their time for, to send a body or
	// to take an answer, needs none of these places.
	concurrentRequests, requestsOfEach = 64, 2
	// requestsOfOne bounds the requests of one orchestrator, from their
	// authentication to their end.
	requestsOfOne = 8
	// unreadBytes bounds the answers that clients have not taken yet.
	unreadBytes = 64 << 20
	// requestTimeout bounds what a request waits for: Postgres, log, other edges.
	requestTimeout = 15 * time.Second
	// bodyTimeout is how long a client may take to send a body. To take an answer
	// it has answerTimeout, and a second for each answerPace bytes.
	bodyTimeout   = 10 * time.Second
	answerTimeout = 10 * time.Second
	answerPace    = 128 << 10
	// readTimeout and writeTimeout are for requests that are not carried out, and
	// for all that comes of them: longer than requestTimeout, which they must not
	// cut short.
	readTimeout  = 20 * time.Second
	writeTimeout = 30 * time.Second
	listBytes    = 1 << 20 // of each read
	tryAgain     = 2 * time.Second
)

// events answers requests for httpevents.Path. Its methods may be called at the
// same time.
type events struct {
	cfg       *Config
	verifier  *gate
	registrar *registrar // nil where there is no database
	hub       *hub
	log       *eventlog.Log
	acks      *acker
	metrics   *metrics
	refusals  *refusals
	logger    *slog.Logger
	unread    *share.Pool[event.Token] // bytes of answers being written

	mu   sync.Mutex
	busy map[event.Token]int // requests of each orchestrator
}

// eventsRequest lets a request in by the same rules as an upgrade.
func (d *door) eventsRequest(w http.ResponseWriter, r *http.Request) {
	addr := d.access.Client(r)
	api := d.events.Load()
	var refusal *failure
	switch {
	case !d.access.Permits(addr):
		refusal = &failure{http.StatusForbidden, codeForbidden, "requests from this address are not allowed", 0}
	case r.Method != http.MethodGet && r.Method != http.MethodDelete:
		w.Header().Set("Allow", "GET, DELETE")
		refusal = &failure{http.StatusMethodNotAllowed, codeValidation, "expected GET or DELETE", 0}
	case api == nil || d.leaving():
		refusal = &failure{http.StatusServiceUnavailable, codeInternal, "this edge takes no requests at the moment", tryAgain}
	case !d.access.Admits(addr, time.Now()):
		refusal = &failure{http.StatusTooManyRequests, codeRateLimited, "too many requests from this address", time.Second}
	case !access.Of(r.Context()).Belongs(addr):
		refusal = &failure{http.StatusTooManyRequests, codeRateLimited, "this address has as many connections as it may", tryAgain}
	}
	status := http.StatusOK
	if refusal == nil {
		status, refusal = api.serve(w, r, addr)
	}
	if refusal != nil {
		status = refusal.status
		refusal.write(w)
		if status != http.StatusUnauthorized { // which refusals has told of
			d.audit.Write(audit.RequestRefused, refusal.code, "address", addr.String(), "method", shownMethod(r.Method), "status", status)
		}
	}
	d.metrics.request(r.Method, status)
}

func (f *failure) write(w http.ResponseWriter) {
	if f.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.wait.Seconds()))))
	}
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, f.status, map[string]string{"error": f.message, "code": f.code})
}

// serve carries out a request, and answers it unless it returns a failure.
func (e *events) serve(w http.ResponseWriter, r *http.Request, addr netip.Addr) (status int, _ *failure) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	viewer, refusal := e.authenticate(ctx, r, addr)
	if refusal != nil {
		return 0, refusal
	}
	access.Of(ctx).Used()
	if !e.enter(viewer.Orchestrator) {
		e.metrics.rateLimited.Inc()
		return 0, &failure{http.StatusTooManyRequests, codeRateLimited, "too many requests of this orchestrator at once", time.Second}
	}
	defer e.leave(viewer.Orchestrator)
	var body []byte
	if r.Method == http.MethodDelete {
		body, refusal = e.remove(ctx, w, r, viewer)
	} else {
		body, refusal = e.list(ctx, r, viewer)
	}
	if refusal != nil {
		return 0, refusal
	}
	return e.answer(w, viewer.Orchestrator, body)
}

// answer writes what was found.
func (e *events) answer(w http.ResponseWriter, orchestrator event.Token, body []byte) (status int, _ *failure) {
	size := int64(len(body))
	if !e.unread.Take(orchestrator, size) {
		e.metrics.rateLimited.Inc()
		return 0, &failure{http.StatusTooManyRequests, codeRateLimited, "too many answers that this orchestrator has not taken", tryAgain}
	}
	defer e.unread.Give(orchestrator, size)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	// Where the connection knows no deadlines, the server's own holds.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout + time.Duration(len(body)/answerPace)*time.Second))
	_, _ = w.Write(body) // the client may be gone
	return http.StatusOK, nil
}

// enter takes one of the orchestrator's places, if there is one.
func (e *events) enter(orchestrator event.Token) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy[orchestrator] >= requestsOfOne {
		return false
	}
	e.busy[orchestrator]++
	return true
}

func (e *events) leave(orchestrator event.Token) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy[orchestrator]--; e.busy[orchestrator] == 0 {
		delete(e.busy, orchestrator)
	}
}

// authenticate finds out who asks, and counts the request.
func (e *events) authenticate(ctx context.Context, r *http.Request, addr netip.Addr) (httpevents.Viewer, *failure) {
	token, err := e.verifier.Verify(bearerToken(r), time.Now())
	if err != nil {
		return httpevents.Viewer{}, e.refuse(err, "orchestrator", token.Orchestrator, "daemon", token.Daemon, "address", addr.String())
	}
	who, err := e.registrar.identify(ctx, token)
	if err == nil {
		err = e.verifier.admits(token, who, addr)
	}
	if err != nil {
		return httpevents.Viewer{}, e.refuse(err, "orchestrator", token.Orchestrator, "daemon", token.Daemon, "address", addr.String())
	}
	v := httpevents.Viewer{
		Orchestrator: event.TokenOf(who.orchestrator), Daemon: token.Daemon, Scopes: token.Scopes,
		MaxEventBytes: int(e.cfg.Log.MaxEventBytes),
	}
	return v, e.count(r.Method, v.Orchestrator)
}

// bearerToken returns the access token of a request, "" if it has none.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func (e *events) refuse(err error, attributes ...any) *failure {
	var refusal *auth.Error
	if !errors.As(err, &refusal) {
		return &failure{http.StatusInternalServerError, codeInternal, "the access token cannot be checked at the moment", tryAgain}
	}
	e.refusals.token(refusal.Reason, attributes...)
	if refusal.Passes() {
		return &failure{http.StatusServiceUnavailable, codeInternal, refusal.Error(), unavailableDelay}
	}
	return &failure{http.StatusUnauthorized, codeUnauthorized, refusal.Error(), 0}
}

// count counts a request against the orchestrator's limits.
func (e *events) count(method string, orchestrator event.Token) *failure {
	limits := e.hub.limits(orchestrator)
	wait := time.Duration(0)
	if method == http.MethodDelete {
		wait = limits.AckRequest(time.Now())
	} else {
		wait = limits.Request(time.Now())
	}
	if wait == 0 {
		return nil
	}
	e.metrics.rateLimited.Inc()
	return &failure{http.StatusTooManyRequests, codeRateLimited, "too many requests of this orchestrator", wait}
}

// list answers a GET.
func (e *events) list(ctx context.Context, r *http.Request, v httpevents.Viewer) ([]byte, *failure) {
	now := time.Now()
	query, err := httpevents.ParseQuery(r.URL.Query(), now)
	if err != nil {
		return nil, &failure{http.StatusBadRequest, codeValidation, err.Error(), 0}
	}
	giveBack, err := e.acks.askLog(e.log.Partition(v.Orchestrator))
	if err != nil {
		return nil, busy()
	}
	defer giveBack()
	listing := httpevents.NewListing(v, query)
	if err := e.readAll(ctx, v.Orchestrator, query.Since, listing); err != nil {
		return nil, e.broken("events not listed", v, err)
	}
	return listing.Body(), nil
}

// readAll gives the listing what it wants of the log.
func (e *events) readAll(ctx context.Context, orchestrator event.Token, since time.Time, listing *httpevents.Listing) error {
	p := e.log.Partition(orchestrator)
	page, err := e.log.ReadSince(ctx, p, orchestrator, since, listing.Wanted(), listBytes)
	for err == nil {
		for _, m := range page.Messages {
			if !listing.Add(m) {
				return nil
			}
		}
		n := len(page.Messages)
		if n == 0 || page.Remaining == 0 {
			return nil
		}
		page, err = e.log.Read(ctx, p, orchestrator, page.Messages[n-1].Sequence+1, listing.Wanted(), listBytes)
	}
	return err
}

// remove answers a DELETE.
func (e *events) remove(ctx context.Context, w http.ResponseWriter, r *http.Request, v httpevents.Viewer) ([]byte, *failure) {
	body, refusal := readBody(w, r)
	if refusal != nil {
		return nil, refusal
	}
	ids, err := httpevents.ParseAck(body)
	if err != nil {
		return nil, &failure{http.StatusBadRequest, codeValidation, err.Error(), 0}
	}
	n, err := e.acks.acknowledge(ctx, v, ids)
	var later *laterError
	if errors.As(err, &later) {
		e.metrics.rateLimited.Inc()
		return nil, &failure{http.StatusTooManyRequests, codeRateLimited, later.message + ": repeat the request", later.wait}
	}
	if errors.Is(err, errBusy) {
		return nil, busy()
	}
	if err != nil {
		return nil, e.broken("events not acknowledged", v, err)
	}
	return httpevents.AppendAcknowledged(nil, n), nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *failure) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, &failure{http.StatusUnsupportedMediaType, codeValidation, "Content-Encoding: expected none", 0}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, httpevents.MaxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &failure{http.StatusRequestEntityTooLarge, codeValidation, "the body is too large, expected at most 1 MiB", 0}
	case err != nil:
		return nil, &failure{http.StatusBadRequest, codeValidation, "the body cannot be read", 0}
	}
	access.BodyTaken(w)
	return body, nil
}

// busy is the failure of who finds no place to ask the log.
func busy() *failure {
	return &failure{http.StatusServiceUnavailable, codeInternal, errBusy.Error(), tryAgain}
}

// broken is the failure that is not the client's fault; it may try again.
func (e *events) broken(message string, v httpevents.Viewer, err error) *failure {
	e.logger.Warn(message, "orchestrator", v.Orchestrator, "daemon", v.Daemon, "error", err)
	return &failure{http.StatusInternalServerError, codeInternal, "the event log cannot be used at the moment", tryAgain}
}

// requestMethods and requestStatuses are the label values of the metric of
// requests.
var (
	requestMethods  = []string{http.MethodGet, http.MethodDelete, "other"}
	requestStatuses = []int{
		http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
)

// shownMethod is a method as metrics and the audit log show it.
func shownMethod(method string) string {
	if method != http.MethodGet && method != http.MethodDelete {
		return "other"
	}
	return method
}

func (m *metrics) request(method string, status int) {
	method = shownMethod(method)
	m.requests.WithLabelValues(method, strconv.Itoa(status)).Inc()
}
