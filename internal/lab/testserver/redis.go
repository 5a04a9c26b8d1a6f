package testserver

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// RedisServer is a redis-server process. It keeps its port over Kill and Start,
// and nothing else: it does not persist. Methods may be called at the same time.
type RedisServer struct {
	t      testing.TB
	server *process.Redis
}

// Redis starts a redis-server, with further arguments. It fails the test, saying
// what to install, where there is none.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	return startRedis(t, t.TempDir(), args...)
}

func startRedis(t testing.TB, dir string, args ...string) *RedisServer {
	t.Helper()
	program, err := process.RedisProgram()
	if err != nil {
		t.Fatal(err)
	}
	server, err := process.NewRedis(process.Server{Name: "redis", Dir: dir, Program: program, Settings: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	r := &RedisServer{t: t, server: server}
	r.Start()
	return r
}

// Addr is host:port.
func (r *RedisServer) Addr() string { return r.server.Addr }

// URL is the redis:// URL of the server.
func (r *RedisServer) URL() string { return r.server.URL() }

// Client returns a client that waits for answers as long as the test does, and
// sends nothing twice. It ends with the test; change may alter its options first.
func (r *RedisServer) Client(change ...func(*redis.Options)) *redis.Client {
	options := &redis.Options{Addr: r.Addr(), MaxRetries: -1, DialTimeout: Patience, ReadTimeout: Patience, WriteTimeout: Patience}
	for _, f := range change {
		f(options)
	}
	client := redis.NewClient(options)
	r.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Start starts the server again after Kill, empty, on the same port.
func (r *RedisServer) Start() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := r.server.Start()
	if err == nil {
		err = r.server.AwaitReady(ctx)
	}
	if err != nil {
		r.t.Fatalf("start redis-server on %s: %v", r.Addr(), err)
	}
}

// Kill kills the server and waits until it is gone.
func (r *RedisServer) Kill() { r.server.Kill() }

// Pause stops the server, like a machine that is gone: what is sent to it is
// taken by the kernel, and nothing answers.
func (r *RedisServer) Pause() {
	r.t.Helper()
	if err := r.server.Pause(); err != nil {
		r.t.Fatal(err)
	}
}

// Resume lets a paused server go on.
func (r *RedisServer) Resume() { r.server.Resume() }
