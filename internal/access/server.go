package access

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/neolith/daemon-gateway/internal/rescue"
)

// Limits of every HTTP server, so that a request that is not finished, or an
// answer that nobody reads, holds a connection for a bounded time.
const (
	headerTimeout = 5 * time.Second
	headerBytes   = 8 << 10
	idleTimeout   = time.Minute
)

// closing is the header Connection of an answer after which nothing is read.
const closing = "close"

// NewServer returns a server for the connections of a Listener. A request, its
// body included, has readTimeout, and the answer writeTimeout from the end of its
// headers on; a handler may set others. Bodies are read where a handler
// wants one and calls BodyTaken; after any other request that declares a body the
// connection is closed, and nothing is read of it. A handler that panics loses its
// connection; panics notes that, and if it is nil, what logger gets of net/http
// has to do.
func NewServer(handler http.Handler, readTimeout, writeTimeout time.Duration, panics *rescue.Notes, logger *slog.Logger, level slog.Level) *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if panics != nil {
				defer noted(panics, r)
			}
			if r.ContentLength == 0 {
				handler.ServeHTTP(w, r)
				return
			}
			// Else net/http would read the body to its end before it answers,
			w.Header().Set("Connection", closing)
			handler.ServeHTTP(w, r)
			if w.Header().Get("Connection") == closing {
				// and now before it closes.
				_ = http.NewResponseController(w).SetReadDeadline(time.Now())
			}
		}),
		ConnContext:       withConn,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), level),
	}
}

// PartRequest is the part of a request by HTTP that panicked.
const PartRequest rescue.Part = "request"

// noted notes a panic, of which net/http says then that it need not be logged.
func noted(panics *rescue.Notes, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	if err, ok := value.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		panics.Panicked(PartRequest, value, "address", r.RemoteAddr, "method", r.Method, "path", r.URL.Path)
	}
	panic(http.ErrAbortHandler)
}

// BodyTaken says that the request's body was read to its end, so that the
// connection may be used again. Nothing is expected of the client until then:
// its silence does not end the request.
func BodyTaken(w http.ResponseWriter) {
	w.Header().Del("Connection")
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it fails where there are none
}
