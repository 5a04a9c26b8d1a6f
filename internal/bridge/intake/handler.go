package intake

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/rescue"
	"github.com/neolith/daemon-gateway/internal/tracing"
)

// openAPI describes the API.
//
//go:embed openapi.yaml
var openAPI []byte

const (
	pathEvents  = "/v1/events"
	pathOpenAPI = "/v1/openapi.yaml"
)

func (in *Intake) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(pathEvents, in.events)
	mux.HandleFunc(pathOpenAPI, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openAPI) // the client may be gone
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		in.refuse(w, r, "", http.StatusNotFound, "not_found", "there is only "+pathEvents+", described by "+pathOpenAPI)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if in.permits(w, r) {
			mux.ServeHTTP(w, r)
		}
	})
}

// events answers one request.
func (in *Intake) events(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	defer func() { in.metrics.seconds.Observe(time.Since(began).Seconds()) }()
	who := in.admit(w, r)
	if who == nil {
		return
	}
	if !in.expects(w, r, who.name) {
		return
	}
	room := &room{pool: in.inFlight, key: who.name}
	defer room.giveBack()
	body, err := readBody(http.MaxBytesReader(w, r.Body, maxBodyBytes), r.ContentLength, room)
	if err != nil {
		in.unreadable(w, r, who.name, err)
		return
	}
	access.BodyTaken(w)
	texts, err := split(body)
	if err != nil {
		in.refuse(w, r, who.name, http.StatusBadRequest, "invalid_body", err.Error())
		return
	}
	events := make([]submitted, len(texts))
	for i, text := range texts {
		events[i] = read(text, in.maxEvent).within(r.Header).allowed(who)
		if f := events[i].result.Error; f != nil && f.Code == codeForbidden {
			in.audit.Write(audit.RequestRefused, "forbidden_orchestrator", "key", who.name, "address", in.access.Client(r).String(),
				"orchestrator", events[i].event.OrchestratorID)
		}
	}
	in.storeAll(r.Context(), events)
	in.answer(w, who.name, events)
}

// permits refuses addresses that are not allowed, or have as many connections as
// they may, behind a proxy that is; others have not come this far.
func (in *Intake) permits(w http.ResponseWriter, r *http.Request) bool {
	addr := in.access.Client(r)
	switch {
	case !in.access.Permits(addr):
		in.metrics.refused.Of(access.RefusedAddress).Inc()
		in.refuse(w, r, "", http.StatusForbidden, codeForbidden, "requests from this address are not allowed")
	case !access.Of(r.Context()).Belongs(addr):
		in.metrics.refused.Of(access.RefusedConnections).Inc()
		in.later(w, r, "", http.StatusTooManyRequests, string(access.RefusedConnections), "this address has as many connections as it may")
	default:
		return true
	}
	return false
}

// admit refuses callers without a key, and what is no request of this API: then
// it returns nil.
func (in *Intake) admit(w http.ResponseWriter, r *http.Request) *holder {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		in.refuse(w, r, "", http.StatusMethodNotAllowed, "method_not_allowed", "expected POST")
		return nil
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	who := in.keys.holder(strings.TrimSpace(key))
	if who == nil || !strings.EqualFold(scheme, "Bearer") {
		in.metrics.authFailures.Inc()
		w.Header().Set("WWW-Authenticate", `Bearer realm="daemon-gateway"`)
		in.refuse(w, r, "", http.StatusUnauthorized, "unauthorized", "expected the header Authorization: Bearer <API key>, with a key that is in API_KEYS_FILE")
		return nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		in.refuse(w, r, who.name, http.StatusUnsupportedMediaType, "unsupported_media_type", "expected Content-Type: application/json")
		return nil
	}
	return who
}

// expects refuses a request whose body would not be read to its end.
func (in *Intake) expects(w http.ResponseWriter, r *http.Request, name string) bool {
	access.Of(r.Context()).Used()
	switch {
	case r.ContentLength > maxBodyBytes:
		// A client that still sends may not see an answer before a reset.
		_, _ = io.CopyN(io.Discard, r.Body, 2*maxBodyBytes)
		in.refuse(w, r, name, http.StatusRequestEntityTooLarge, "too_large", tooLarge())
	case !in.ready():
		in.later(w, r, name, http.StatusServiceUnavailable, "unavailable", "the event log cannot be reached at the moment")
	case !in.inFlight.Fits(name, max(r.ContentLength, 1)):
		in.later(w, r, name, http.StatusTooManyRequests, "busy", errNoRoom.Error())
	default:
		return true
	}
	return false
}

func tooLarge() string {
	return fmt.Sprintf("the body is too large, expected at most %d bytes: send fewer events at once", maxBodyBytes)
}

func (in *Intake) unreadable(w http.ResponseWriter, r *http.Request, name string, err error) {
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		in.refuse(w, r, name, http.StatusRequestEntityTooLarge, "too_large", tooLarge())
	case errors.Is(err, errNoRoom):
		in.later(w, r, name, http.StatusTooManyRequests, "busy", err.Error())
	default:
		in.refuse(w, r, name, http.StatusBadRequest, "unreadable", "the body did not arrive whole")
	}
}

// storeAll stores what is valid and sets the results. Of an orchestrator one
// event at a time is under way, and none after one that failed, so that they
// stand in the log in the order given.
func (in *Intake) storeAll(ctx context.Context, events []submitted) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var tasks errgroup.Group
	tasks.SetLimit(concurrentStores)
	for _, lane := range lanes(events) {
		tasks.Go(func() error {
			var broken bool
			for _, s := range lane {
				if broken {
					s.result.Status = failed
					s.result.Error = &fault{Code: "not_tried", Message: "an earlier event of this orchestrator has failed"}
					continue
				}
				broken = in.storeOne(ctx, s)
			}
			return nil
		})
	}
	_ = tasks.Wait() // the tasks return none
}

// partStore is where storing an event panicked.
const partStore rescue.Part = "store"

// storeOne stores one event, and reports whether it failed. It may panic, which is
// one way to fail: nobody waits for the event but its request, and what is sent
// again is stored once.
func (in *Intake) storeOne(ctx context.Context, s *submitted) (broken bool) {
	defer func() {
		if value := recover(); value != nil {
			in.panics.Panicked(partStore, value, tracing.LogOf(s.event, "event", s.event.ID, "orchestrator", s.event.OrchestratorID)...)
			s.result.Status, s.result.Error = failed, &fault{Code: "unavailable", Message: "the event could not be stored"}
			broken = true
		}
	}()
	outcome, err := in.store(ctx, s.event, s.body)
	switch {
	case errors.Is(err, ErrRefused):
		s.result.Status, s.result.Error = invalid, &fault{Code: "refused", Message: err.Error()}
		return false
	case errors.Is(err, ErrFull):
		in.logger.Debug("an event was not stored", "event", s.event.ID, "orchestrator", s.event.OrchestratorID, "error", err)
		s.result.Status, s.result.Error = failed, &fault{Code: codeFull, Message: "the event's partition of the log is full; send it again when there is room"}
		return true
	case err != nil:
		in.logger.Debug("an event was not stored",
			tracing.LogOf(s.event, "event", s.event.ID, "orchestrator", s.event.OrchestratorID, "error", err)...)
		s.result.Status, s.result.Error = failed, &fault{Code: "unavailable", Message: "the event log did not take it; send it again"}
		return true
	case outcome.Waiting:
		s.result.Status = waiting
		return false
	}
	s.result.Status = stored
	if outcome.Duplicate {
		s.result.Status = duplicate
	}
	s.result.Partition, s.result.Sequence = &outcome.Partition, outcome.Sequence
	return false
}

// codeFull is of an event that found its partition full.
const codeFull = "full"

// answer says what has become of each event. Where one is to be sent again, so
// is the request: what is stored comes out as a duplicate.
func (in *Intake) answer(w http.ResponseWriter, name string, events []submitted) {
	results := make([]result, len(events))
	var again, full int
	for i, s := range events {
		results[i] = s.result
		in.metrics.events.Of(s.result.Status).Inc()
		if s.result.Status == failed {
			again++
		}
		if s.result.Error != nil && s.result.Error.Code == codeFull {
			full++
		}
	}
	code := http.StatusOK
	if again > 0 {
		code = http.StatusServiceUnavailable
		setRetryAfter(w)
		in.logger.Warn("events over HTTP were not stored", "key", name, "failed", again, "full", full, "events", len(events))
	}
	in.write(w, code, map[string]any{"results": results})
}

// later refuses a request that may be sent again.
func (in *Intake) later(w http.ResponseWriter, r *http.Request, key string, status int, code, message string) {
	setRetryAfter(w)
	in.refuse(w, r, key, status, code, message)
}

// setRetryAfter spreads those who come back.
func setRetryAfter(w http.ResponseWriter) {
	seconds := int(retryAfter.Seconds())
	w.Header().Set("Retry-After", strconv.Itoa(seconds+rand.IntN(seconds+1)))
}

// refuse answers a request that is not carried out, and writes down whose it was: the
// name of the key that it came with, "" for none that is known.
func (in *Intake) refuse(w http.ResponseWriter, r *http.Request, key string, status int, code, message string) {
	method := r.Method
	if method != http.MethodPost && method != http.MethodGet {
		method = "other"
	}
	in.audit.Write(audit.RequestRefused, code, "key", key, "address", in.access.Client(r).String(), "method", method, "status", status)
	in.write(w, status, map[string]any{"error": fault{Code: code, Message: message}})
}

func (in *Intake) write(w http.ResponseWriter, code int, body any) {
	in.metrics.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
