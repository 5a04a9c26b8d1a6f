// Package admin is the port that operators and their probes talk to. Every program
// has one. It is not reachable through the load balancer and serves nothing to
// daemons. Whatever it shows is what this node has and knows: no page asks another
// process, so that all of them answer while NATS, Redis or PostgreSQL is away.
//
//	/                index, for people
//	/livez /readyz   probes
//	/metrics         Prometheus
//	/settings        in force, with secrets masked
//	/log             the last lines of the log
//	/log-level       GET what is in force, PUT another one for a while
//	/profiles        PUT: profiles from elsewhere than this machine, for a while
//	/debug/pprof/    profiles
//	/...             what the tier has to show (Page)
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/logbook"
)

// Config is the part of a program's settings that belongs to its admin port.
type Config struct {
	AdminAddr   string `name:"admin-addr" help:"Address of health checks and metrics." default:":9090" group:"Operation"`
	EnablePprof bool   `help:"Serve profiles (/debug/pprof/) on the admin address to other machines, too; to this one they are served in any case." group:"Operation"`
}

// Validate reports an address that cannot be listened on.
func (c Config) Validate(report func(setting, problem string)) {
	_, port, err := net.SplitHostPort(c.AdminAddr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		report("ADMIN_ADDR", "expected an address such as :9090 or 127.0.0.1:9090")
	}
}

// Server serves the admin port. Its methods may be called concurrently; Run
// once at most.
type Server struct {
	listener net.Listener
	http     *http.Server
}

const (
	// shutdownGrace bounds the wait for scrapes in progress when Run ends.
	shutdownGrace = time.Second
	// readTimeout and writeTimeout are for a request and its answer.
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
)

// limits leave room for probes and scrapes, whoever else connects.
var limits = access.Config{MaxConnectionsPerIP: 100, MaxUnauthenticated: 200}

// Node is what a server tells of.
type Node struct {
	Tier, Name string
	Registry   *prometheus.Registry
	Checks     []Check
	// Settings are those in force, without secrets.
	Settings string
	Log      *logbook.Book
	Audit    *audit.Log
	Pages    []Page
	// Profiles are served to other machines as well.
	Profiles bool
}

// Page shows something of a node, as JSON.
type Page struct {
	Path, About string
	// Show must not wait for another process. An error is the request's.
	Show func(query url.Values) (any, error)
}

// New binds addr, registers the Go, process and build collectors, and returns a
// server that does not serve yet. An addr with port 0 takes any.
func New(addr string, n Node, logger *slog.Logger) (*Server, error) {
	if err := registerProcess(n.Registry); err != nil {
		return nil, fmt.Errorf("register the process's metrics: %w", err)
	}
	logger = logger.With("component", "admin")
	control, err := access.New(limits, "", 0, func(access.Refusal, netip.Addr) {}, logger, n.Registry)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on admin address %s: %w", addr, err)
	}
	return &Server{
		listener: control.Listener(listener),
		http:     access.NewServer(newMux(n), readTimeout, writeTimeout, nil, logger, slog.LevelWarn),
	}, nil
}

// Addr returns the address that the server is bound to.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then lets requests in progress finish for a
// second. It returns nil after a graceful stop.
func (s *Server) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if s.http.Shutdown(grace) != nil {
			s.http.Close()
		}
	})
	err := s.http.Serve(s.listener)
	if !unregister() {
		<-stopped
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin address %s: %w", s.Addr(), err)
	}
	return nil
}

// Close frees the address of a server that was never run.
func (s *Server) Close() error {
	return errors.Join(s.http.Close(), ignoreClosed(s.listener.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func newMux(n Node) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /readyz", readyHandler(n.Checks))
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.Registry, promhttp.HandlerOpts{
		Registry: n.Registry, EnableOpenMetrics: true, // which has exemplars, for who asks for it
	}))
	mux.HandleFunc("GET /{$}", n.index)
	mux.HandleFunc("GET /settings", func(w http.ResponseWriter, _ *http.Request) { writeText(w, n.Settings) })
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, _ *http.Request) { writeText(w, joined(n.Log.Lines())) })
	mux.HandleFunc("GET /log-level", n.logLevel)
	mux.HandleFunc("PUT /log-level", n.setLogLevel)
	for _, page := range n.Pages {
		mux.HandleFunc("GET "+page.Path, page.serve)
	}
	newProfiles(n).handle(mux)
	return mux
}

func registerProcess(reg *prometheus.Registry) error {
	info := buildinfo.Get()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "gateway_build_info",
		Help:        "Always 1; the labels say which build is running.",
		ConstLabels: prometheus.Labels{"version": info.Version, "revision": info.Revision, "goversion": info.GoVersion},
	})
	build.Set(1)
	return errors.Join(
		reg.Register(build),
		reg.Register(collectors.NewGoCollector()),
		reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}
