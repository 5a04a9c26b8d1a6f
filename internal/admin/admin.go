// Package admin is the port that operators and their probes talk to: /livez,
// /readyz, /metrics and, when enabled, /debug/pprof/. Every program has one. It
// is not reachable through the load balancer and serves nothing to daemons.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/buildinfo"
)

// Config is the part of a program's settings that belongs to its admin port.
type Config struct {
	AdminAddr   string `name:"admin-addr" help:"Address of health checks and metrics." default:":9090" group:"Operation"`
	EnablePprof bool   `help:"Serve profiles (/debug/pprof/) on the admin address." group:"Operation"`
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

// New binds addr, registers the Go, process and build collectors on reg, and
// returns a server that does not serve yet. An addr with port 0 takes any.
func New(addr string, enablePprof bool, reg *prometheus.Registry, checks []Check, logger *slog.Logger) (*Server, error) {
	if err := registerProcess(reg); err != nil {
		return nil, fmt.Errorf("register the process's metrics: %w", err)
	}
	logger = logger.With("component", "admin")
	control, err := access.New(limits, "", 0, func(access.Refusal, netip.Addr) {}, logger, reg)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on admin address %s: %w", addr, err)
	}
	return &Server{
		listener: control.Listener(listener),
		http:     access.NewServer(newMux(enablePprof, reg, checks), readTimeout, writeTimeout, nil, logger, slog.LevelWarn),
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

func newMux(enablePprof bool, reg *prometheus.Registry, checks []Check) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /readyz", readyHandler(checks))
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	if enablePprof {
		mux.HandleFunc("/debug/pprof/", unhurried(pprof.Index))
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", unhurried(pprof.Profile))
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", unhurried(pprof.Trace))
	}
	return mux
}

// unhurried is for what takes as long as the request says: the end of the time
// for reading a request would end it. It sees to its write deadline itself.
func unhurried(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it fails where there are none
		handler(w, r)
	}
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
