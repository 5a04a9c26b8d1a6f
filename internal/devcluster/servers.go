package devcluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/settings"
)

const (
	loopback = "127.0.0.1"
	// natsMaxStore and logMaxBytes: NATS reserves the second for each partition
	// within the first. A development machine's disk needs no more.
	natsMaxStore = 64 << 30
	logMaxBytes  = 1 << 30
	// natsReady bounds the start of the embedded server, which reads its data.
	natsReady = 30 * time.Second
)

// startNATS runs a NATS server with JetStream on disk and the subject mapping
// by which backends publish without knowing of partitions.
func (c *Cluster) startNATS() error {
	if len(c.cfg.NATSURL) > 0 {
		c.nats = c.cfg.NATSURL
		return nil
	}
	port := free(c.cfg.NATSPort)
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "devcluster", Host: loopback, Port: port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: c.cfg.natsDirectory(), JetStreamMaxStore: natsMaxStore,
	})
	if err != nil {
		return fmt.Errorf("configure the embedded NATS server: %w", err)
	}
	source, destination := eventlog.SubjectMapping(c.partitions)
	if err := s.GlobalAccount().AddMapping(source, destination); err != nil {
		return fmt.Errorf("map %s to its partition: %w", source, err)
	}
	go s.Start()
	c.teardown.Push("NATS server", func(context.Context) error {
		s.Shutdown()
		s.WaitForShutdown()
		return nil
	})
	if !s.ReadyForConnections(natsReady) {
		return fmt.Errorf("the embedded NATS server is not ready after %s", natsReady)
	}
	c.nats = []settings.URL{settings.URL(s.ClientURL())}
	return nil
}

// startRedis runs a server that speaks Redis, enough of it for pub/sub.
func (c *Cluster) startRedis() error {
	if c.cfg.RedisURL != "" {
		c.redis = c.cfg.RedisURL
		return nil
	}
	r := miniredis.NewMiniRedis()
	if err := r.StartAddr(address(free(c.cfg.RedisPort))); err != nil {
		return fmt.Errorf("start the embedded Redis-compatible server: %w", err)
	}
	c.teardown.Push("Redis server", func(context.Context) error { r.Close(); return nil })
	c.redis = settings.URL("redis://" + r.Addr())
	return nil
}

// loadSecret returns the secret that was given, or that of the data directory,
// so that tokens outlive a restart.
func (c *Cluster) loadSecret() error {
	if c.cfg.DaemonJWTSecret != "" {
		c.secret = c.cfg.DaemonJWTSecret
		return nil
	}
	kept, err := os.ReadFile(c.cfg.secretFile())
	if err == nil && len(kept) > 0 {
		c.secret = settings.Secret(kept)
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the generated secret: %w", err)
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	c.secret = settings.Secret(base64.RawURLEncoding.EncodeToString(raw))
	if err := os.WriteFile(c.cfg.secretFile(), []byte(c.secret), 0o600); err != nil {
		return fmt.Errorf("keep the generated secret: %w", err)
	}
	return nil
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// free returns the wanted port if nobody listens on it, else 0: whoever listens
// there is given a free one. To look for one before would be to lose it to
// somebody else in between.
func free(wanted int) int {
	listener, err := net.Listen("tcp", address(wanted))
	if err != nil {
		return 0
	}
	_ = listener.Close()
	return wanted
}
