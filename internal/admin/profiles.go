package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync/atomic"
	"time"

	"github.com/neolith/daemon-gateway/internal/loopback"
)

const (
	profilesPath = "/debug/pprof/"
	// longestOpening bounds for how long profiles are open to other machines.
	longestOpening = 24 * time.Hour
)

// profiles are open to this machine, and to others as long as a setting or somebody
// on this machine wants it: who takes them sees what the process works on, and
// slows it down.
type profiles struct {
	node   Node
	always bool
	until  atomic.Int64 // Unix time in nanoseconds
}

func newProfiles(n Node) *profiles { return &profiles{node: n, always: n.Profiles} }

func (p *profiles) handle(mux *http.ServeMux) {
	for path, handler := range map[string]http.HandlerFunc{
		profilesPath: unhurried(pprof.Index), profilesPath + "cmdline": pprof.Cmdline,
		profilesPath + "profile": unhurried(pprof.Profile), profilesPath + "symbol": pprof.Symbol,
		profilesPath + "trace": unhurried(pprof.Trace),
	} {
		mux.HandleFunc(path, p.guarded(handler))
	}
	mux.HandleFunc("PUT /profiles", p.open)
}

func (p *profiles) guarded(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !p.always && !local(r) && time.Now().UnixNano() >= p.until.Load() {
			writeProblem(w, http.StatusForbidden, errors.New(
				"profiles are for this machine: ENABLE_PPROF=true, or PUT /profiles?for=10m from this machine, opens them to others"))
			return
		}
		handler(w, r)
	}
}

// open lets other machines take profiles for a while; for=0s ends that.
func (p *profiles) open(w http.ResponseWriter, r *http.Request) {
	if !local(r) {
		writeProblem(w, http.StatusForbidden, errors.New("profiles are opened from this machine alone"))
		return
	}
	query := r.URL.Query()
	err := onlyKnown(query, "for", "by", "because")
	lasts, wrong := time.ParseDuration(query.Get("for"))
	if wrong != nil || lasts < 0 || lasts > longestOpening {
		err = errors.Join(err, fmt.Errorf("for: got %.40q, expected a duration such as 10m, up to 24h", query.Get("for")))
	}
	if err != nil {
		writeProblem(w, http.StatusBadRequest, err)
		return
	}
	until := time.Now().Add(lasts)
	p.node.acted("profiles_opened", r, query, "until", until)
	p.until.Store(until.UnixNano())
	writeJSON(w, http.StatusOK, map[string]time.Time{"until": until})
}

// forwarded are the headers by which a proxy says that it asks for somebody else:
// that of a service mesh asks from this machine.
var forwarded = []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip"}

// local reports whether a request comes from this machine.
func local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && loopback.Is(host) &&
		!slices.ContainsFunc(forwarded, func(header string) bool { return r.Header.Get(header) != "" })
}

// unhurried is for what takes as long as the request says: the end of the time
// for reading a request would end it. It sees to its write deadline itself.
func unhurried(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it fails where there are none
		handler(w, r)
	}
}
