package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// program is one of the programs that runs, with its log.
type program struct {
	t     *testing.T
	admin string

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// run starts a program, which the test's end kills.
func (p *program) run(path string, settings ...string) {
	p.t.Helper()
	p.admin = fmt.Sprintf("127.0.0.1:%d", testserver.Port(p.t))
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append([]string{"ADMIN_ADDR=" + p.admin, "LOG_LEVEL=debug"}, settings...)
	cmd.Stdout, cmd.Stderr = io.Discard, p
	require.NoError(p.t, cmd.Start())
	p.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		if p.t.Failed() {
			p.t.Log(p.log.String())
		}
	})
}

// lines returns the lines of the log that have these parts, by their level.
func (p *program) lines(parts ...string) map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := map[string]int{}
	for line := range strings.Lines(p.log.String()) {
		var entry struct{ Level string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			found[entry.Level]++
		}
	}
	return found
}

// detail is what /readyz says of a check.
func (p *program) detail(check string) string {
	answer, err := http.Get("http://" + p.admin + "/readyz")
	if err != nil {
		return ""
	}
	defer func() { _ = answer.Body.Close() }()
	var body struct {
		Checks map[string]struct{ Detail string }
	}
	if json.NewDecoder(answer.Body).Decode(&body) != nil {
		return ""
	}
	return body.Checks[check].Detail
}

// A connection that cannot be made says in /readyz and in the log to which address,
// what happened, since when, and when it is tried again: in the log once, however
// often it is tried.
func TestNodesSayWhyTheirServersCannotBeReached(t *testing.T) {
	t.Parallel()
	nobody := fmt.Sprintf("127.0.0.1:%d", testserver.Port(t))
	certificate := testserver.NewCertificate(t, 1)
	pair, err := tls.X509KeyPair(certificate.Certificate, certificate.Key)
	require.NoError(t, err)
	password := testserver.NATS(t, func(o *server.Options) { o.Username, o.Password = "router", "right" })
	secured := testserver.NATS(t, func(o *server.Options) {
		o.TLSConfig, o.TLSTimeout = &tls.Config{Certificates: []tls.Certificate{pair}}, testserver.Patience.Seconds()
	})
	redis := testserver.Redis(t)
	require.NoError(t, redis.Client().ConfigSet(t.Context(), "requirepass", "right").Err())
	host := func(url string) string { return url[strings.LastIndexAny(url, "/@")+1:] }
	postgres := testserver.OwnPostgres(t)

	for name, tt := range map[string]struct {
		path, setting, check, address, says string
	}{
		"NATS is not there":           {binaries.Router, "NATS_URL=nats://" + nobody, "nats", nobody, "connection refused"},
		"NATS refuses the password":   {binaries.Router, "NATS_URL=nats://router:wrong@" + host(password.ClientURL()), "nats", host(password.ClientURL()), "authorization"},
		"NATS shows a foreign TLS":    {binaries.Router, "NATS_URL=tls://" + host(secured.ClientURL()), "nats", host(secured.ClientURL()), "TLS: its certificate is not accepted"},
		"Redis is not there":          {binaries.Bridge, "REDIS_URL=redis://" + nobody, "redis", nobody, "connection refused"},
		"Redis refuses the password":  {binaries.Bridge, "REDIS_URL=redis://:wrong@" + redis.Addr(), "redis", redis.Addr(), "authorization"},
		"PostgreSQL is not there":     {binaries.Bridge, "DATABASE_URL=postgres://wrong:wrong@" + nobody + "/neolith", "postgres", nobody, "connection refused"},
		"PostgreSQL refuses the user": {binaries.Router, "DATABASE_URL=postgres://nobody:wrong" + postgres.URL()[strings.Index(postgres.URL(), "@"):], "postgres", "", "authorization"},
		"no other member is there":    {binaries.Router, "GOSSIP_JOIN=" + nobody, "gossip", nobody, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &program{t: t}
			p.run(tt.path, "NATS_URL=nats://"+nobody, "REDIS_URL=redis://"+nobody, "GOSSIP_ADDR=127.0.0.1:0", tt.setting)
			require.Eventually(t, func() bool {
				detail := p.detail(tt.check)
				return strings.Contains(detail, tt.address) && strings.Contains(detail, tt.says) &&
					strings.Contains(detail, " since 20") && (strings.Contains(detail, "next try in ") || strings.Contains(detail, "tried again now"))
			}, testserver.Patience, 10*time.Millisecond, "/readyz says it")
			component := map[string]string{"nats": "natsconn", "redis": "bridge", "postgres": "postgres", "gossip": "directory"}[tt.check]
			parts := []string{`"component":"` + component + `"`, tt.says, tt.address, `"since":"20`, `"retry_in":"`}
			if tt.check != "nats" || tt.address == nobody { // of a handshake that fails again the library tells nobody
				require.Eventually(t, func() bool { return p.lines(parts...)["DEBUG"] >= 2 }, testserver.Patience, 10*time.Millisecond, "it is tried again")
			}
			require.Equal(t, 1, p.lines(parts...)["WARN"], "and said once")
			require.NotContains(t, p.detail(tt.check)+p.log.String(), ":wrong")
		})
	}
}

// The first line says which program it is, where it is found, and what is switched
// on.
func TestTheFirstLineSaysWhatIsStarted(t *testing.T) {
	t.Parallel()
	const secret = "0123456789-do-not-show-this-to-anybody"
	for name, tt := range map[string]struct {
		path     string
		settings []string
		says     []string
	}{
		"edge": {binaries.Edge, []string{"DAEMON_JWT_SECRET=" + secret, "LISTEN_ADDR=127.0.0.1:0", "SCOPES_STRICT=true"},
			[]string{"127.0.0.1:0", "strict scopes", "balance"}},
		"router":           {binaries.Router, []string{"DATABASE_URL=postgres://u:" + secret + "@127.0.0.1:1/db"}, []string{"127.0.0.1:1", "PostgreSQL"}},
		"publisher-bridge": {binaries.Bridge, []string{"REDIS_URL=redis://:" + secret + "@127.0.0.1:2"}, []string{"127.0.0.1:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &program{t: t}
			p.run(tt.path, append(tt.settings, "NATS_URL=nats://u:"+secret+"@127.0.0.1:3", "GOSSIP_ADDR=127.0.0.1:0")...)
			require.Eventually(t, func() bool { return len(p.lines("starting")) > 0 }, testserver.Patience, 10*time.Millisecond)
			p.mu.Lock()
			defer p.mu.Unlock()
			first, _, _ := strings.Cut(p.log.String(), "\n")
			for _, part := range append(tt.says, `"msg":"starting"`, `"program":"`+name+`"`, "revision", p.admin, "127.0.0.1:3") {
				require.Contains(t, first, part)
			}
			require.NotContains(t, first, secret)
		})
	}
}
