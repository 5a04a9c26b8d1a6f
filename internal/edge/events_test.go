package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// answer is what a request by HTTP was answered.
type answer struct {
	status int
	header http.Header
	raw    string

	Events []struct {
		ID, Type, CreatedAt  string
		Payload              json.RawMessage
		ChannelID, MessageID *string
	}
	HasMore      bool
	Success      bool
	Acknowledged int
	Error, Code  string
}

func (a answer) ids() (ids []string) {
	for _, e := range a.Events {
		ids = append(ids, e.ID)
	}
	return ids
}

func (n *node) request(method, query, body string, change ...func(*http.Request)) (a answer) {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.Addr().String()+httpevents.Path+query, strings.NewReader(body))
	require.NoError(n.t, err)
	for _, f := range change {
		f(r)
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(n.t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(n.t, err)
	a.status, a.header, a.raw = res.StatusCode, res.Header, string(raw)
	require.Equal(n.t, "application/json", res.Header.Get("Content-Type"), a.raw)
	require.NoError(n.t, json.Unmarshal(raw, &a), a.raw)
	return a
}

func bearing(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// as is a request of a daemon with a good token.
func as(t *testing.T, orchestrator, daemon string, scopes ...string) func(*http.Request) {
	return bearing(token(t, auth.Grant{
		Orchestrator: protocol.OrchestratorID(orchestrator), Daemon: protocol.DaemonID(daemon), Scopes: scopes,
	}))
}

func (n *node) list(query string, who func(*http.Request)) answer {
	n.t.Helper()
	a := n.request(http.MethodGet, query, "", who)
	require.Equal(n.t, http.StatusOK, a.status, a.raw)
	return a
}

// acknowledge is a DELETE that succeeds, and how many events it says.
func (n *node) acknowledge(who func(*http.Request), ids ...string) int {
	n.t.Helper()
	body, err := json.Marshal(map[string]any{"eventIds": ids})
	require.NoError(n.t, err)
	a := n.request(http.MethodDelete, "", string(body), who)
	require.Equal(n.t, http.StatusOK, a.status, a.raw)
	require.True(n.t, a.Success)
	return a.Acknowledged
}

func TestStoredEventsAreListedByHTTP(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	began := time.Now()
	require.JSONEq(t, `{"events":[],"hasMore":false}`, n.list("", as(t, "orch", "d")).raw)
	first := c.publish("orch", func(e *event.Event) {
		e.Payload, e.ChannelID = json.RawMessage(`{"messageId": "m-1"}`), "channel-1"
	})
	c.publish("other")
	for range 4 {
		c.publish("orch")
	}
	all := n.list("", as(t, "orch", "d"))
	require.Equal(t, []string{first.id, "event-3", "event-4", "event-5", "event-6"}, all.ids())
	require.False(t, all.HasMore)
	e := all.Events[0]
	require.Equal(t, "message.received", e.Type)
	require.Equal(t, `{"messageId": "m-1"}`, string(e.Payload))
	require.Equal(t, "channel-1", *e.ChannelID)
	require.Equal(t, "m-1", *e.MessageID)
	require.Nil(t, all.Events[1].ChannelID)
	createdAt, err := time.Parse(time.RFC3339Nano, e.CreatedAt)
	require.NoError(t, err)
	require.WithinRange(t, createdAt, began, time.Now())

	var seen []string
	page := n.list("?limit=2&since="+url.QueryEscape(began.Format(time.RFC3339Nano)), as(t, "orch", "d"))
	for page.HasMore {
		require.Len(t, page.Events, 2)
		seen = append(seen, page.ids()...)
		page = n.list("?limit=2&since="+page.Events[1].CreatedAt, as(t, "orch", "d"))
	}
	require.Equal(t, all.ids(), append(seen, page.ids()...))
	require.Empty(t, n.list("?since="+all.Events[4].CreatedAt, as(t, "orch", "d")).Events)
	n.eventuallyMetric(`gateway_edge_http_requests_total{method="GET",status="200"}`, "6")
}

func TestAListingIsNotLimitedToOneReadOfTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	large := json.RawMessage(`{"text":"` + strings.Repeat("x", 200<<10) + `"}`)
	for range 12 {
		c.publish("orch", func(e *event.Event) { e.Payload = large })
	}
	require.Len(t, n.list("?limit=12", as(t, "orch", "d")).Events, 12)
	require.True(t, n.list("?limit=11", as(t, "orch", "d")).HasMore)
}

func TestADaemonIsListedOnlyWhatItMaySee(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	forAll := c.publish("orch")
	forD := c.publish("orch", func(e *event.Event) { e.DaemonID = "d" })
	call := c.publish("orch", func(e *event.Event) { e.Type = "call.started" })
	require.Equal(t, []string{forAll.id, forD.id, call.id}, n.list("", as(t, "orch", "d")).ids())
	require.Equal(t, []string{forAll.id, call.id}, n.list("", as(t, "orch", "e")).ids())
	require.Equal(t, []string{forAll.id, call.id}, n.list("", as(t, "orch", "")).ids())
	require.Equal(t, []string{forAll.id, forD.id}, n.list("", as(t, "orch", "d", "messages:read")).ids())
	require.Empty(t, n.list("", as(t, "orch-2", "d")).Events)
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	good := as(t, "orch", "d")
	refresh := token(t, auth.Grant{Orchestrator: "orch", ExpiresAt: time.Now().Add(-time.Hour)})
	type request struct {
		method, query, body string
		change              []func(*http.Request)
		status              int
		code, message       string
	}
	for name, test := range map[string]request{
		"no token":        {"GET", "", "", nil, 401, "UNAUTHORIZED", "not a JSON Web Token"},
		"another scheme":  {"GET", "", "", []func(*http.Request){func(r *http.Request) { r.SetBasicAuth("a", "b") }}, 401, "UNAUTHORIZED", ""},
		"an old token":    {"GET", "", "", []func(*http.Request){bearing(refresh)}, 401, "UNAUTHORIZED", "expired"},
		"a made-up token": {"DELETE", "", `{"eventIds":["a"]}`, []func(*http.Request){bearing("a.b.c")}, 401, "UNAUTHORIZED", ""},
		"a bad limit":     {"GET", "?limit=0", "", []func(*http.Request){good}, 400, "VALIDATION_ERROR", "limit: expected"},
		"a bad time":      {"GET", "?since=yesterday", "", []func(*http.Request){good}, 400, "VALIDATION_ERROR", "since: expected"},
		"no ids":          {"DELETE", "", `{}`, []func(*http.Request){good}, 400, "VALIDATION_ERROR", "eventIds: got 0 ids"},
		"no JSON":         {"DELETE", "", `event-1`, []func(*http.Request){good}, 400, "VALIDATION_ERROR", "expected a JSON object"},
		"another method":  {"POST", "", `{}`, []func(*http.Request){good}, 405, "VALIDATION_ERROR", "expected GET or DELETE"},
		"a huge body":     {"DELETE", "", strings.Repeat(" ", httpevents.MaxBodyBytes+1), []func(*http.Request){good}, 413, "VALIDATION_ERROR", "1 MiB"},
		"a packed body": {"DELETE", "", "x", []func(*http.Request){good, func(r *http.Request) {
			r.Header.Set("Content-Encoding", "gzip")
		}}, 415, "VALIDATION_ERROR", "Content-Encoding"},
	} {
		got := n.request(test.method, test.query, test.body, test.change...)
		require.Equal(t, test.status, got.status, name)
		require.Equal(t, test.code, got.Code, name)
		require.Contains(t, got.Error, test.message, name)
	}
	require.Equal(t, "GET, DELETE", n.request("PUT", "", "").header.Get("Allow"))
	require.Equal(t, "Bearer", n.request("GET", "", "").header.Get("WWW-Authenticate"))
	n.eventuallyMetric(`gateway_edge_http_requests_total{method="other",status="405"}`, "2")
}

func TestRequestsHaveTheLimitsOfMessages(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge(func(cfg *Config) { cfg.Sockets.RateMessagesPerMinute, cfg.Sockets.RateAcksPerMinute = 3, 2 })
	d := n.login("orch", "d") // its auth counted before anybody knew whose it was
	for range 3 {
		n.list("", as(t, "orch", "e"))
	}
	over := n.request(http.MethodGet, "", "", as(t, "orch", "d"))
	require.Equal(t, http.StatusTooManyRequests, over.status)
	require.Equal(t, "RATE_LIMITED", over.Code)
	wait, err := strconv.Atoi(over.header.Get("Retry-After"))
	require.NoError(t, err)
	require.True(t, wait >= 1 && wait <= 60, "%d", wait)
	d.send("subscribe", `{"eventTypes":["*"]}`)
	d.expect(protocol.TypeRateLimit)
	n.list("", as(t, "other", "d"))

	n.acknowledge(as(t, "orch", "d"), "a")
	n.acknowledge(as(t, "orch", "d"), "a")
	over = n.request(http.MethodDelete, "", `{"eventIds":["a"]}`, as(t, "orch", "d"))
	require.Equal(t, http.StatusTooManyRequests, over.status)
	require.NotEmpty(t, over.header.Get("Retry-After"))
}

func TestRequestsHaveTheLimitsOfConnects(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	closed := c.edge(func(cfg *Config) {
		cfg.Listen.Access.AllowedCIDRs = prefixes("192.0.2.0/24")
		cfg.Listen.Access.TrustedProxies = prefixes("127.0.0.0/8")
	})
	require.Equal(t, http.StatusForbidden, closed.request("GET", "", "", as(t, "orch", "d")).status)
	slow := c.edge(func(cfg *Config) { cfg.Listen.RateConnectsPerIP = 1 })
	require.Eventually(t, func() bool {
		slow.useUpConnects()
		a := slow.request("GET", "", "", as(t, "orch", "d"))
		return a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != ""
	}, testserver.Patience, time.Millisecond)
}

func TestWithoutTheLogNothingIsListedAndNothingAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	c.nats.Shutdown()
	for method, body := range map[string]string{"GET": "", "DELETE": `{"eventIds":["a"]}`} {
		a := n.request(method, "", body, as(t, "orch", "d"))
		require.Equal(t, http.StatusInternalServerError, a.status)
		require.Equal(t, "INTERNAL_ERROR", a.Code)
	}
	c.nats.Start()
}

func TestRequestsNameTheOrchestratorByEitherID(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	db := neolith(t)
	n := c.edge(onDatabase(db.URL()))
	e := c.publish("vp-1")
	for _, id := range []string{"vp-1", "user-1"} {
		require.Equal(t, []string{e.id}, n.list("", as(t, id, "d")).ids())
	}
	unknown := n.request("GET", "", "", as(t, "nobody", "d"))
	require.Equal(t, http.StatusUnauthorized, unknown.status)
	require.Equal(t, "UNAUTHORIZED", unknown.Code)
	require.Equal(t, 1, n.acknowledge(as(t, "user-1", "d"), e.id))
	require.Equal(t, 0, n.acknowledge(as(t, "vp-1", "d"), e.id))
	db.AddOrchestrators(t, testserver.Orchestrator{ID: "nobody", User: "somebody"})
	require.Eventually(t, func() bool {
		return n.request("GET", "", "", as(t, "nobody", "d")).status == http.StatusOK
	}, testserver.Patience, 200*time.Millisecond)
}

func TestRequestsWithoutPostgres(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	db := ownNeolith(t)
	db.Stop()
	lenient := c.edge(onDatabase(db.URL()))
	strict := c.edge(onDatabase(db.URL(), onlyCached))
	e := c.publish("vp-1")
	require.Equal(t, []string{e.id}, lenient.list("", as(t, "vp-1", "d")).ids())
	refused := strict.request("GET", "", "", as(t, "vp-1", "d"))
	require.Equal(t, http.StatusServiceUnavailable, refused.status)
	require.NotEmpty(t, refused.header.Get("Retry-After"))
}

// One orchestrator's requests leave places to those of others.
func TestRequestsOfOneOrchestratorTakeOnlyTheirShare(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	api := n.door.events.Load()
	for range requestsOfOne {
		require.True(t, api.enter("orch"))
	}
	a := n.request("GET", "", "", as(t, "orch", "d"))
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, n.request("GET", "", "", as(t, "other", "d")).status)
	api.leave("orch")
	require.Equal(t, http.StatusOK, n.request("GET", "", "", as(t, "orch", "d")).status)
}

// Regression: who waited until another request of its orchestrator had searched held
// one of the places of all, so that eight tenants could have them.
func TestWhoWaitsForItsTurnKeepsNobodyFromTheLog(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	acks := n.door.events.Load().acks
	for i := range concurrentRequests / requestsOfOne {
		slow := fmt.Sprint("slow-", i)
		turn, err := acks.searches.begin(t.Context(), event.Token(slow), "")
		require.NoError(t, err)
		defer acks.searches.end(turn, 0)
		bearer := token(t, auth.Grant{Orchestrator: protocol.OrchestratorID(slow), Daemon: "d"})
		const body = `{"eventIds":["a"]}`
		for range requestsOfOne {
			n.knock(request("DELETE", httpevents.Path, fmt.Sprintf("Authorization: Bearer %s\r\nContent-Length: %d\r\n", bearer, len(body))) + body)
		}
		require.Eventually(t, func() bool {
			acks.searches.mu.Lock()
			defer acks.searches.mu.Unlock()
			return turn.users == 1+requestsOfOne
		}, testserver.Patience, time.Millisecond)
	}
	require.Equal(t, http.StatusOK, n.request("GET", "", "", as(t, "other", "d")).status)
	require.Zero(t, n.acknowledge(as(t, "other", "d"), "a"))
}

// A partition that did not answer had all places for as long as requests may take, and
// requests for the others were told to come again.
func TestAPartitionThatDoesNotAnswerKeepsNobodyFromTheOthers(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	acks := n.door.events.Load().acks
	silent, other := event.Token("orch"), event.Token("orch-0")
	for i := 1; acks.log.Partition(other) == acks.log.Partition(silent); i++ {
		other = event.Token(fmt.Sprint("orch-", i))
	}
	for range concurrentRequests {
		if giveBack, err := acks.askLog(acks.log.Partition(silent)); err == nil {
			defer giveBack()
		}
	}
	require.Equal(t, http.StatusServiceUnavailable, n.request("GET", "", "", as(t, string(silent), "d")).status)
	require.Equal(t, http.StatusOK, n.request("GET", "", "", as(t, string(other), "d")).status)
	require.Zero(t, n.acknowledge(as(t, string(other), "d"), "a"))
}

// Six partitions that did not answer had all places but one, which is nobody's share:
// requests for a seventh were told to come again.
func TestHoweverManyPartitionsDoNotAnswerTheOthersAreAsked(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	acks := n.door.events.Load().acks
	own := acks.log.Partition("orch")
	for silent := own + 1; silent < own+16; silent++ { // as if there were as many
		for range concurrentRequests {
			if giveBack, err := acks.askLog(silent); err == nil {
				defer giveBack()
			}
		}
	}
	require.Equal(t, http.StatusOK, n.request("GET", "", "", as(t, "orch", "d")).status)
	require.Zero(t, n.acknowledge(as(t, "orch", "d"), "a"))
}

func TestADrainingEdgeSendsRequestsElsewhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := c.edge()
	n.door.draining.Store(true)
	a := n.request("GET", "", "", as(t, "orch", "d"))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, fmt.Sprint(tryAgain.Seconds()), a.header.Get("Retry-After"))
}

// 72 requests whose bodies did not come took all places for 10 s, and everybody
// else was told to come again.
func TestSlowClientsKeepNobodyFromTheirEvents(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	api := n.door.events.Load()
	const orchestrators = concurrentRequests/requestsOfOne + 1
	for i := range orchestrators {
		bearer := token(t, auth.Grant{Orchestrator: protocol.OrchestratorID(fmt.Sprint("slow-", i)), Daemon: "d"})
		for range requestsOfOne {
			n.knock(request("DELETE", httpevents.Path, "Authorization: Bearer "+bearer+"\r\nContent-Length: 18\r\n"))
		}
	}
	require.Eventually(t, func() bool {
		api.mu.Lock()
		defer api.mu.Unlock()
		all := 0
		for _, busy := range api.busy {
			all += busy
		}
		return all == orchestrators*requestsOfOne
	}, testserver.Patience, time.Millisecond)
	require.Equal(t, http.StatusOK, n.request("GET", "", "", as(t, "other", "d")).status)
	require.Zero(t, n.acknowledge(as(t, "other", "d"), "a"))
	require.Equal(t, http.StatusTooManyRequests, n.request("GET", "", "", as(t, "slow-0", "d")).status, "its own are used up")
}

// kubestellar/console#7374, oomol-lab/open-connector#188: proxies and clients write the scheme in other letters.
func TestTheSchemeBeforeATokenMayBeInAnyLetters(t *testing.T) {
	t.Parallel()
	n := newCluster(t).edge()
	text := token(t, auth.Grant{Orchestrator: "orch", Daemon: "d"})
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		got := n.request("GET", "", "", func(r *http.Request) { r.Header.Set("Authorization", scheme+text) })
		require.Equal(t, http.StatusOK, got.status, scheme)
	}
}
