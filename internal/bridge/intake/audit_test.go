package intake

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/audit"
)

func TestTheAuditLogSaysWhoseRequestWasRefusedAndWhy(t *testing.T) {
	t.Parallel()
	in := start(t, intoNothing, always, func(cfg *Config) {
		cfg.Access.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Access.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	const stranger = "a key that nobody has"
	with := func(body string, change ...func(*http.Request)) answer {
		r := in.request(strings.NewReader(body))
		for _, f := range change {
			f(r)
		}
		return in.do(r)
	}
	require.Equal(t, http.StatusOK, with(sample("e", "vp")).code)
	require.NotContains(t, in.told.String(), "audit", "what is carried out is not written down")
	room := in.inFlight
	require.True(t, room.Take("backend", maxInFlight/2))
	for reason, try := range map[string]struct {
		body   string
		change func(*http.Request)
		status int
		key    string
		more   map[string]any
	}{
		"unauthorized":           {"", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+stranger) }, 401, "", nil},
		"forbidden":              {"", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.9") }, 403, "", map[string]any{"address": "192.0.2.9"}},
		"busy":                   {"{}", func(*http.Request) {}, 429, "backend", nil},
		"invalid_body":           {"1", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+otherKey) }, 400, "other", nil},
		"unsupported_media_type": {"{}", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415, "backend", nil},
		"method_not_allowed":     {"", func(r *http.Request) { r.Method = http.MethodPut }, 405, "", map[string]any{"method": "other"}},
	} {
		require.Equal(t, try.status, with(try.body, try.change).code, reason)
		lines := in.told.Audited("reason", reason)
		require.Len(t, lines, 1, reason)
		want := map[string]any{
			"level": "INFO", "act": string(audit.RequestRefused), "key": try.key, "address": "127.0.0.1", "method": "POST", "status": float64(try.status),
		}
		for name, value := range try.more {
			want[name] = value
		}
		for name, value := range want {
			require.Equal(t, value, lines[0][name], "%s of %v", name, lines[0])
		}
	}
	room.Give("backend", maxInFlight/2)
	for _, secret := range []string{key, otherKey, stranger, hashOf(key), hashOf(stranger)} {
		require.NotContains(t, in.told.String(), secret)
	}
	count, err := testutil.GatherAndCount(in.registry, "gateway_audit_records_total")
	require.NoError(t, err)
	require.Positive(t, count)
}

func TestTheAuditLogSaysForWhomAKeyMayNotPublish(t *testing.T) {
	t.Parallel()
	in := start(t, intoNothing, always, func(cfg *Config) { cfg.APIKeysFile = keyFile(t, line("backend", key)+" vp") })
	in.post("[" + sample("own", "vp") + "," + sample("another's", "other") + "]")
	lines := in.told.Audited("reason", "forbidden_orchestrator")
	require.Len(t, lines, 1)
	require.Equal(t, "backend", lines[0]["key"])
	require.Equal(t, "other", lines[0]["orchestrator"])
	require.Equal(t, "127.0.0.1", lines[0]["address"])
}

func TestTheAuditLogSaysWhichConnectionsWereClosed(t *testing.T) {
	t.Parallel()
	in := start(t, intoNothing, always, func(cfg *Config) { cfg.Access.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	if conn, err := net.Dial("tcp", in.Addr().String()); err == nil { // else it was closed by then
		t.Cleanup(func() { _ = conn.Close() })
	}
	require.Eventually(t, func() bool { return len(in.told.Audited("reason", "address")) == 1 }, patience, look)
	line := in.told.Audited("reason", "address")[0]
	require.Equal(t, string(audit.ConnectionRefused), line["act"])
	require.Equal(t, "127.0.0.1", line["address"])
}
