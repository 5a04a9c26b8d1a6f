package testserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// SentinelMaster is the name under which sentinels know the master.
	SentinelMaster = "neolith"

	sentinelCount  = 3
	sentinelQuorum = 2
	// sentinelPatience is how long a master may be silent before it is replaced;
	// a busy machine must not be taken for a dead one.
	sentinelPatience = 2 * time.Second
)

// RedisSentinel is a Redis master with replicas and three sentinels, all
// processes of their own.
type RedisSentinel struct {
	t         testing.TB
	Nodes     []*RedisServer // the first is the master at the start
	Sentinels []*RedisServer
}

// Sentinel starts a master with replicas, with further arguments, and waits until
// the sentinels know them and one another, so that they can replace the master.
func Sentinel(t testing.TB, replicas int, args ...string) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{t: t, Nodes: []*RedisServer{Redis(t, args...)}}
	master := s.Nodes[0]
	host, port, err := net.SplitHostPort(master.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for range replicas {
		s.Nodes = append(s.Nodes, Redis(t, append([]string{"--replicaof", host, port, "--repl-diskless-sync-delay", "0"}, args...)...))
	}
	for range sentinelCount {
		dir := t.TempDir()
		s.Sentinels = append(s.Sentinels, startRedis(t, dir, watcher(t, dir, host, port), "--sentinel"))
	}
	for _, sentinel := range s.Sentinels {
		if err := s.await(sentinel, replicas); err != nil {
			t.Fatalf("start Sentinel: %v", err)
		}
	}
	return s
}

// watcher writes the configuration file of a sentinel of a master.
func watcher(t testing.TB, dir, host, port string) (file string) {
	t.Helper()
	config := fmt.Sprintf("sentinel monitor %s %s %s %d\n"+
		"sentinel down-after-milliseconds %[1]s %[5]d\nsentinel failover-timeout %[1]s 5000\n",
		SentinelMaster, host, port, sentinelQuorum, sentinelPatience.Milliseconds())
	file = filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatalf("write a sentinel's configuration: %v", err)
	}
	return file
}

// Addrs are the sentinels' addresses.
func (s *RedisSentinel) Addrs() []string {
	var addrs []string
	for _, sentinel := range s.Sentinels {
		addrs = append(addrs, sentinel.Addr())
	}
	return addrs
}

// Master is the node that a sentinel names as the master. That sentinel must
// run.
func (s *RedisSentinel) Master(sentinel *RedisServer) *RedisServer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var addr []string
	err := sentinel.server.Await(ctx, func() error {
		return sentinel.ask(func(ctx context.Context, c *redis.SentinelClient) (err error) {
			addr, err = c.GetMasterAddrByName(ctx, SentinelMaster).Result()
			return err
		})
	})
	for _, node := range s.Nodes {
		if err == nil && net.JoinHostPort(addr[0], addr[1]) == node.Addr() {
			return node
		}
	}
	s.t.Fatalf("no node is the master: %v, %v", addr, err)
	return nil
}

// await waits until a sentinel could take part in a failover.
func (s *RedisSentinel) await(sentinel *RedisServer, replicas int) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return sentinel.server.Await(ctx, func() error {
		return sentinel.ask(func(ctx context.Context, c *redis.SentinelClient) error {
			master, err := c.Master(ctx, SentinelMaster).Result()
			if err != nil {
				return err
			}
			if master["num-slaves"] != strconv.Itoa(replicas) || master["num-other-sentinels"] != strconv.Itoa(sentinelCount-1) ||
				master["flags"] != "master" {
				return fmt.Errorf("the sentinel knows %s replicas and %s other sentinels, the master is %s",
					master["num-slaves"], master["num-other-sentinels"], master["flags"])
			}
			return nil
		})
	})
}

func (r *RedisServer) ask(question func(context.Context, *redis.SentinelClient) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	client := redis.NewSentinelClient(&redis.Options{Addr: r.Addr(), Protocol: 2})
	defer func() { _ = client.Close() }()
	return question(ctx, client)
}
