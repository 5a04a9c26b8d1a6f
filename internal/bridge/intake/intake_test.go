package intake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/audit"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const (
	key      = "a key of the tests"
	otherKey = "another key of the tests"
	patience = testserver.Patience
	look     = 10 * time.Millisecond
)

func keyFile(t testing.TB, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "api-keys")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600))
	return file
}

func hashOf(key string) string {
	hash := sha256.Sum256([]byte(key))
	return hex.EncodeToString(hash[:])
}

func line(name, key string) string { return name + " " + hashOf(key) }

// openLog opens a log on the server.
func openLog(t testing.TB, nats *testserver.NATSServer, change func(*eventlog.Config)) *eventlog.Log {
	t.Helper()
	cfg := settings.Default[eventlog.Config]()
	cfg.Partitions = 4
	change(&cfg)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	log, err := eventlog.Open(ctx, nats.JetStream(), cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return log
}

func unchanged(*eventlog.Config) {}

// intoLog stores as a bridge without identities does.
func intoLog(log *eventlog.Log) Store {
	return func(ctx context.Context, e event.Event, body []byte) (Outcome, error) {
		ack, err := log.Publish(ctx, event.TokenOf(e.OrchestratorID), e.ID, body)
		switch {
		case errors.Is(err, eventlog.ErrTooLarge):
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		case errors.Is(err, eventlog.ErrLogFull):
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return Outcome{Duplicate: ack.Duplicate, Partition: ack.Partition, Sequence: ack.Sequence}, err
	}
}

// intake is a running one, whose answers are all compared with the description
// of the API.
type intake struct {
	*Intake
	t        testing.TB
	router   routers.Router
	stop     func()
	told     *testserver.Journal // all that it logs
	registry *prometheus.Registry
}

func start(t testing.TB, store Store, ready func() bool, change ...func(*Config)) *intake {
	t.Helper()
	cfg := settings.Default[Config]()
	cfg.HTTPAddr, cfg.APIKeysFile = "127.0.0.1:0", keyFile(t, line("backend", key), line("other", otherKey))
	for _, f := range change {
		f(&cfg)
	}
	reg := prometheus.NewPedanticRegistry()
	told := &testserver.Journal{}
	logger := slog.New(slog.NewJSONHandler(told, &slog.HandlerOptions{Level: slog.LevelDebug}))
	in, err := New(cfg, store, ready, 1024, audit.New(logger, reg), logger, reg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	stop := func() {
		cancel()
		require.NoError(t, <-ended)
		ended <- nil
	}
	t.Cleanup(stop)
	return &intake{Intake: in, t: t, router: described(t, in.Addr().String()), stop: stop, told: told, registry: reg}
}

func always() bool { return true }

func described(t testing.TB, addr string) routers.Router {
	t.Helper()
	text := bytes.Replace(openAPI, []byte("localhost:8081"), []byte(addr), 1)
	document, err := openapi3.NewLoader().LoadFromData(text)
	require.NoError(t, err)
	require.NoError(t, document.Validate(context.Background()))
	router, err := legacy.NewRouter(document)
	require.NoError(t, err)
	return router
}

type answer struct {
	code    int
	header  http.Header
	Results []result `json:"results"`
	Error   *fault   `json:"error"`
}

// statuses lists what has become of each event.
func (a answer) statuses() (list []status) {
	for _, r := range a.Results {
		list = append(list, r.Status)
	}
	return list
}

func (in *intake) request(body io.Reader) *http.Request {
	in.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+in.Addr().String()+pathEvents, body)
	require.NoError(in.t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	return r
}

func (in *intake) post(body string) answer {
	in.t.Helper()
	return in.do(in.request(strings.NewReader(body)))
}

func (in *intake) do(r *http.Request) answer {
	in.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	require.NoError(in.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(in.t, err)
	in.conforms(r, response, text)
	a := answer{code: response.StatusCode, header: response.Header}
	require.NoError(in.t, json.Unmarshal(text, &a), "%s", text)
	return a
}

// conforms fails the test where an answer is not one that openapi.yaml
// describes.
func (in *intake) conforms(r *http.Request, response *http.Response, body []byte) {
	in.t.Helper()
	posted := r.Clone(context.Background())
	posted.Method, posted.Body = http.MethodPost, nil
	route, parameters, err := in.router.FindRoute(posted)
	require.NoError(in.t, err)
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: posted, PathParams: parameters, Route: route},
		Status:                 response.StatusCode, Header: response.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	input.SetBodyBytes(body)
	require.NoError(in.t, openapi3filter.ValidateResponse(context.Background(), input))
}

func sample(id, orchestrator string) string {
	return fmt.Sprintf(`{"id":%q,"type":"message.received","orchestratorId":%q,"payload":{"n":1.50},"requiresAck":true}`, id, orchestrator)
}

func TestAnEventIsStoredAsItCameAndAnsweredForWhenTheLogHasIt(t *testing.T) {
	t.Parallel()
	log := openLog(t, testserver.NATS(t), unchanged)
	in := start(t, intoLog(log), always)
	a := in.post(sample("one", "vp"))
	require.Equal(t, http.StatusOK, a.code)
	require.Equal(t, []status{stored}, a.statuses())
	require.Equal(t, "one", a.Results[0].ID)
	p := *a.Results[0].Partition
	require.Equal(t, log.Partition("vp"), p)
	page, err := log.Read(t.Context(), p, "vp", 1, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, page.Messages, 1)
	require.Equal(t, a.Results[0].Sequence, page.Messages[0].Sequence)
	require.Equal(t, sample("one", "vp"), string(page.Messages[0].Body))
}

func TestARequestSentAgainStoresNothingTwice(t *testing.T) {
	t.Parallel()
	nats := testserver.NATS(t)
	log := openLog(t, nats, unchanged)
	// Two bridges, as behind one load balancer.
	one, two := start(t, intoLog(log), always), start(t, intoLog(openLog(t, nats, unchanged)), always)
	body := "[" + sample("1", "vp") + "," + sample("2", "vp") + "," + sample("1", "other") + "]"
	require.Equal(t, []status{stored, stored, stored}, one.post(body).statuses())
	again := two.post(body)
	require.Equal(t, http.StatusOK, again.code)
	require.Equal(t, []status{duplicate, duplicate, duplicate}, again.statuses())
	page, err := log.Read(t.Context(), log.Partition("vp"), "vp", 1, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, page.Messages, 2)
}

func TestEventsOfAnOrchestratorStandInTheOrderGiven(t *testing.T) {
	t.Parallel()
	log := openLog(t, testserver.NATS(t), unchanged)
	in := start(t, intoLog(log), always)
	var events []string
	for i := range MaxEvents {
		events = append(events, sample(fmt.Sprint(i), fmt.Sprintf("vp%d", i%7)))
	}
	require.NotContains(t, in.post("["+strings.Join(events, ",")+"]").statuses(), failed)
	for o := range 7 {
		token := event.Token(fmt.Sprintf("vp%d", o))
		page, err := log.Read(t.Context(), log.Partition(token), token, 1, 1000, 1<<20)
		require.NoError(t, err)
		for i, m := range page.Messages {
			require.Contains(t, string(m.Body), fmt.Sprintf(`"id":"%d"`, o+7*i))
		}
	}
}

func TestWhatIsWrongWithOneEventIsSaidAndHarmsNoOther(t *testing.T) {
	t.Parallel()
	in := start(t, intoLog(openLog(t, testserver.NATS(t), unchanged)), always)
	a := in.post(`[` + sample("good", "vp") + `, 7, {"id":"no-type","orchestratorId":"vp","payload":{}},` +
		sample("canary", "_canary_edge") + `,` + sample(strings.Repeat("x", 2000), "vp") + `,` + sample("also good", "vp") + `]`)
	require.Equal(t, http.StatusOK, a.code)
	require.Equal(t, []status{stored, invalid, invalid, invalid, invalid, stored}, a.statuses())
	var faults []string
	for _, r := range a.Results[1:5] {
		faults = append(faults, r.ID+" "+r.Error.Code+" "+r.Error.Field)
	}
	require.Equal(t, []string{" not_json ", "no-type missing_field type", "canary invalid_field orchestratorId", " too_large "}, faults)
	require.EqualValues(t, 4, testutil.ToFloat64(in.metrics.events.Of(invalid)))
}

func TestRequestsThatAreNoneAreRefusedWhole(t *testing.T) {
	t.Parallel()
	in := start(t, func(context.Context, event.Event, []byte) (Outcome, error) {
		return Outcome{}, errors.New("nothing of them is to be stored")
	}, always)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	none := func(*http.Request) {}
	for _, c := range []struct {
		name, body string
		change     func(*http.Request)
		code       int
	}{
		{"no JSON", "hello", none, 400},
		{"cut off", `[{"id":"1"`, none, 400},
		{"two values", `{} {}`, none, 400},
		{"neither event nor array", `"event"`, none, 400},
		{"empty", ``, none, 400},
		{"no events", `[]`, none, 400},
		{"too many events", "[" + strings.Repeat("{},", MaxEvents) + "{}]", none, 400},
		{"too large", strings.Repeat(" ", maxBodyBytes+1), none, 413},
		{"too large, and nobody said so", strings.Repeat(" ", maxBodyBytes+1), func(r *http.Request) { r.ContentLength = -1 }, 413},
		{"no key", "{}", func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		{"another key", "{}", header("Authorization", "Bearer another"), 401},
		{"the hash as the key", "{}", header("Authorization", "Bearer "+hashOf(key)), 401},
		{"another scheme", "{}", header("Authorization", "Basic "+key), 401},
		{"another type", "{}", header("Content-Type", "text/plain"), 415},
		{"another method", "", func(r *http.Request) { r.Method = http.MethodGet }, 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			own := *in
			own.t = t
			r := own.request(strings.NewReader(c.body))
			c.change(r)
			a := own.do(r)
			require.Equal(t, c.code, a.code)
			require.NotEmpty(t, a.Error.Code)
			require.NotEmpty(t, a.Error.Message)
			require.NotContains(t, fmt.Sprint(*a.Error), key)
		})
	}
}

func TestWhileTheLogIsAwayEventsAreToBeSentAgain(t *testing.T) {
	t.Parallel()
	nats := testserver.NATS(t)
	log := openLog(t, nats, unchanged)
	in := start(t, intoLog(log), always)
	nats.Shutdown()
	body := "[" + sample("1", "vp") + "," + sample("2", "vp") + "]"
	a := in.post(body)
	require.Equal(t, http.StatusServiceUnavailable, a.code)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, []status{failed, failed}, a.statuses())
	require.Equal(t, "not_tried", a.Results[1].Error.Code)
	nats.Start()
	require.Eventually(t, func() bool { return in.post(body).code == http.StatusOK }, patience, look)
}

func TestABridgeThatIsNotConnectedTakesNothing(t *testing.T) {
	t.Parallel()
	in := start(t, nil, func() bool { return false })
	a := in.post(sample("1", "vp"))
	require.Equal(t, http.StatusServiceUnavailable, a.code)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, "unavailable", a.Error.Code)
}

func TestAFullLogRefusesOnlyWhatItHasNoRoomFor(t *testing.T) {
	t.Parallel()
	log := openLog(t, testserver.NATS(t), func(cfg *eventlog.Config) { cfg.Partitions, cfg.LogMaxBytes = 1, 1<<20 })
	in := start(t, intoLog(log), always)
	big := strings.Replace(sample("%d", "vp"), "1.50", `"`+strings.Repeat("x", 900)+`"`, 1)
	sent := 0
	for {
		var events []string
		for range 500 {
			events = append(events, fmt.Sprintf(big, sent))
			sent++
		}
		a := in.post("[" + strings.Join(events, ",") + "]")
		require.Less(t, sent, 5000)
		if a.code == http.StatusOK {
			continue
		}
		require.Equal(t, http.StatusServiceUnavailable, a.code)
		require.Equal(t, failed, a.Results[499].Status)
		require.Equal(t, "full", firstFault(a.Results))
		require.Regexp(t, `"events over HTTP were not stored".*"full":1[,}]`, in.told.String())
		break
	}
}

// firstFault is the code of the first event that was not stored.
func firstFault(results []result) string {
	for _, r := range results {
		if r.Status == failed {
			return r.Error.Code
		}
	}
	return ""
}

func TestAtMostSoMuchIsHeldAtOnce(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	in := start(t, func(ctx context.Context, _ event.Event, _ []byte) (Outcome, error) {
		entered <- struct{}{}
		<-leave
		return Outcome{Waiting: true}, nil
	}, always)
	large := sample("1", "vp") + strings.Repeat(" ", maxBodyBytes-len(sample("1", "vp")))
	var requests errgroup.Group
	// A key has half of all.
	for range maxInFlight / maxBodyBytes / 2 {
		requests.Go(func() error {
			a := in.post(large)
			if a.code != http.StatusOK || a.Results[0].Status != waiting {
				return fmt.Errorf("answered %d", a.code)
			}
			return nil
		})
	}
	for range maxInFlight / maxBodyBytes / 2 {
		<-entered
	}
	a := in.post(sample("1", "vp"))
	require.Equal(t, http.StatusTooManyRequests, a.code)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	requests.Go(func() error {
		r := in.request(strings.NewReader(sample("1", "vp")))
		r.Header.Set("Authorization", "Bearer "+otherKey)
		if a := in.do(r); a.code != http.StatusOK {
			return fmt.Errorf("another key was answered %d", a.code)
		}
		return nil
	})
	<-entered
	close(leave)
	require.NoError(t, requests.Wait())
	require.Eventually(t, func() bool { return in.inFlight.Fits("backend", maxInFlight/2) }, patience, look, "all of it is given back")
}

// Four requests that declared 16 MiB, and sent a byte each, kept everybody else
// out for 30 s.
func TestABodyThatDoesNotArriveTakesNoRoom(t *testing.T) {
	t.Parallel()
	in := start(t, func(context.Context, event.Event, []byte) (Outcome, error) { return Outcome{Sequence: 1}, nil }, always)
	for range 2 * maxInFlight / maxBodyBytes {
		conn, err := net.Dial("tcp", in.Addr().String())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n[",
			pathEvents, key, maxBodyBytes)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return !in.inFlight.Fits("backend", maxInFlight/2) }, patience, look, "they have come in")
	for _, bearer := range []string{key, otherKey} {
		r := in.request(strings.NewReader(sample("1", "vp")))
		r.Header.Set("Authorization", "Bearer "+bearer)
		require.Equal(t, http.StatusOK, in.do(r).code)
	}
}

func TestARefusedRequestIsAnsweredWithoutItsBody(t *testing.T) {
	t.Parallel()
	in := start(t, nil, always)
	for _, headers := range []string{"", "Authorization: Bearer wrong\r\n", "Authorization: Bearer " + key + "\r\nContent-Type: text/plain\r\n"} {
		conn, err := net.Dial("tcp", in.Addr().String())
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: 1000\r\n\r\n", pathEvents, headers)
		require.NoError(t, err)
		reader := bufio.NewReader(conn)
		response, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		_, err = reader.ReadByte()
		require.ErrorIs(t, err, io.EOF, "the connection is closed")
		require.NoError(t, conn.Close())
	}
}

func TestAnIDThatIsTooLongIsNotRepeated(t *testing.T) {
	t.Parallel()
	in := start(t, nil, always)
	a := in.post(sample(strings.Repeat("x", 500), "vp"))
	require.Equal(t, []status{invalid}, a.statuses())
	require.Less(t, len(a.Results[0].ID), 100)
}

func TestAddressesThatMayNotPublish(t *testing.T) {
	t.Parallel()
	in := start(t, nil, always, func(cfg *Config) { cfg.Access.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	conn, err := net.Dial("tcp", in.Addr().String())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	require.Error(t, err, "closed before anything is read")

	behind := start(t, nil, always, func(cfg *Config) {
		cfg.Access.DeniedCIDRs = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		cfg.Access.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	r := behind.request(strings.NewReader(sample("1", "vp")))
	r.Header.Set("X-Forwarded-For", "192.0.2.9")
	a := behind.do(r)
	require.Equal(t, http.StatusForbidden, a.code)
	require.Equal(t, "forbidden", a.Error.Code)
	for _, path := range []string{pathOpenAPI, "/elsewhere"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+behind.Addr().String()+path, nil)
		require.NoError(t, err)
		r.Header.Set("X-Forwarded-For", "192.0.2.9")
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusForbidden, response.StatusCode, path)
	}
}

// Regression: behind a proxy nobody counted.
func TestAnAddressBehindAProxyHasOnlySoManyConnections(t *testing.T) {
	t.Parallel()
	in := start(t, nil, always, func(cfg *Config) {
		cfg.Access.MaxConnectionsPerIP = 1
		cfg.Access.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	from := func(address string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+in.Addr().String()+pathEvents, nil)
		require.NoError(t, err)
		r.Header.Set("X-Forwarded-For", address)
		transport := &http.Transport{} // a connection of its own, that stays
		t.Cleanup(transport.CloseIdleConnections)
		response, err := transport.RoundTrip(r)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, errors.Join(err, response.Body.Close()))
		return response.StatusCode
	}
	require.Equal(t, http.StatusMethodNotAllowed, from("192.0.2.9"))
	require.Equal(t, http.StatusTooManyRequests, from("192.0.2.9"))
	require.Equal(t, http.StatusMethodNotAllowed, from("192.0.2.10"))
}

// A connection that a client keeps open is no way around a list that has changed.
func TestListsOfAddressesAreReadAgainByTheIntake(t *testing.T) {
	t.Parallel()
	denied := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(denied, []byte("# nobody yet\n"), 0o600))
	in := start(t, intoNothing, always, func(cfg *Config) { cfg.Access.DeniedCIDRsFile = denied })
	kept, err := net.Dial("tcp", in.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	answers := bufio.NewReader(kept)
	ask := func() int {
		body := sample("1", "vp")
		_, err := fmt.Fprintf(kept, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			pathEvents, key, len(body), body)
		require.NoError(t, err)
		response, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, ask())

	require.NoError(t, os.WriteFile(denied, []byte("127.0.0.0/8\n"), 0o600))
	require.Eventually(t, func() bool { return !in.access.Permits(netip.MustParseAddr("127.0.0.1")) }, patience, look)
	require.Equal(t, http.StatusForbidden, ask())
	conn, err := net.Dial("tcp", in.Addr().String())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	require.Error(t, err, "closed before anything is read")

	require.NoError(t, os.WriteFile(denied, nil, 0o600))
	require.Eventually(t, func() bool { return in.access.Permits(netip.MustParseAddr("127.0.0.1")) }, patience, look)
	require.Equal(t, http.StatusOK, in.post(sample("2", "vp")).code)
}

func TestAStopAnswersWhatIsInProgress(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	in := start(t, func(context.Context, event.Event, []byte) (Outcome, error) {
		close(entered)
		<-leave
		return Outcome{Sequence: 7}, nil
	}, always)
	answered := make(chan answer, 1)
	go func() { answered <- in.post(sample("1", "vp")) }()
	<-entered
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		in.stop()
	}()
	require.Eventually(t, func() bool {
		_, err := http.Get("http://" + in.Addr().String() + pathOpenAPI)
		return err != nil
	}, patience, look, "no new connection is taken")
	close(leave)
	require.Equal(t, []status{stored}, (<-answered).statuses())
	<-stopped
}

func TestKeysCanBeChangedWhileItRuns(t *testing.T) {
	t.Parallel()
	file := keyFile(t, "# those who may publish", "", line("backend", "old"), line("removed", "removed"))
	reg := prometheus.NewRegistry()
	k, err := newKeyring(file, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	look := func(faulty bool, names map[string]string, lines ...string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600))
		require.Equal(t, faulty, k.file.Look() != nil)
		for _, key := range []string{"old", "removed", "new"} {
			name := ""
			if h := k.holder(key); h != nil {
				name = h.name
			}
			require.Equal(t, names[key], name, key)
		}
	}
	look(false, map[string]string{"old": "backend", "removed": "removed"}, line("backend", "old"), line("removed", "removed"))
	look(true, map[string]string{"old": "backend"}, line("backend", "old"), "half a li")
	look(true, map[string]string{"old": "backend", "new": "more"}, "backend 123", line("more", "new"))
	look(true, map[string]string{"new": "backend"}, line("backend", "new"), line("backend", "newer"))
	look(true, nil, line("backend", "new")+" _canary_x")
	look(false, map[string]string{"new": "backend"}, line("backend", "new"))
	require.NoError(t, os.Remove(file))
	require.Error(t, k.file.Look())
	require.NotNil(t, k.holder("new"), "a file that cannot be read changes nothing")
	look(true, nil, "# nobody any more")
	look(true, nil)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP gateway_intake_api_keys API keys that may publish over HTTP now.
# TYPE gateway_intake_api_keys gauge
gateway_intake_api_keys 0
`), "gateway_intake_api_keys"))
	look(false, map[string]string{"old": "backend"}, line("backend", "old"))
}

func TestAKeyFileThatCannotBeUsedIsRefusedWithoutShowingIt(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"no hash":       {"backend not-hashed-key"},
		"empty":         {"# nothing"},
		"one word":      {"backend"},
		"name twice":    {line("a", "1"), line("a", "2")},
		"key twice":     {line("a", "1"), line("b", "1")},
		"no hex digits": {"backend " + strings.Repeat("z", 64)},
		"no id":         {line("a", "1") + " " + strings.Repeat("x", protocol.MaxIDBytes+1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var problems []string
			cfg := settings.Default[Config]()
			cfg.HTTPAddr, cfg.APIKeysFile = "nowhere", keyFile(t, lines...)
			cfg.Validate(func(setting, problem string) { problems = append(problems, setting+": "+problem) })
			require.Len(t, problems, 2)
			require.NotContains(t, strings.Join(problems, " "), "not-hashed-key")
		})
	}
}

func TestAKeyMayBeForNamedOrchestratorsAlone(t *testing.T) {
	t.Parallel()
	var stored []protocol.OrchestratorID // by one request after the other
	in := start(t, func(_ context.Context, e event.Event, _ []byte) (Outcome, error) {
		stored = append(stored, e.OrchestratorID)
		return Outcome{Sequence: 1}, nil
	}, always, func(cfg *Config) {
		cfg.APIKeysFile = keyFile(t, line("backend", key)+" vp other.one", line("all", otherKey))
	})
	a := in.post("[" + sample("1", "vp") + "," + sample("2", "vp2") + "]")
	require.Equal(t, []status{"stored", "invalid"}, a.statuses())
	require.Equal(t, "forbidden", a.Results[1].Error.Code)
	require.Equal(t, []status{"stored"}, in.post(sample("3", "other.one")).statuses())
	r := in.request(strings.NewReader(sample("4", "vp2")))
	r.Header.Set("Authorization", "Bearer "+otherKey)
	require.Equal(t, []status{"stored"}, in.do(r).statuses())
	require.Equal(t, []protocol.OrchestratorID{"vp", "other.one", "vp2"}, stored)
}

func TestBackendsPublishByTLS(t *testing.T) {
	t.Parallel()
	theirs, ours := testserver.NewCertificate(t, 1), testserver.NewCertificate(t, 2)
	in := start(t, func(context.Context, event.Event, []byte) (Outcome, error) { return Outcome{Sequence: 1}, nil }, always, func(cfg *Config) {
		cfg.TLS.TLSCertFile, cfg.TLS.TLSKeyFile = theirs.Files(t)
		cfg.TLS.TLSClientCAFile, _ = ours.Files(t)
	})
	post := func(shown ...tls.Certificate) (int, error) {
		r := in.request(strings.NewReader(sample("1", "vp")))
		r.URL.Scheme = "https"
		client := http.Client{Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: theirs.Pool, Certificates: shown},
		}}
		response, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	pair, err := tls.X509KeyPair(ours.Certificate, ours.Key)
	require.NoError(t, err)
	code, err := post(pair)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	_, err = post()
	require.Error(t, err, "a client without a certificate")
	response, err := http.Post("http://"+in.Addr().String()+pathEvents, "application/json", strings.NewReader(sample("1", "vp")))
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, response.StatusCode, "and without TLS")
	require.NoError(t, response.Body.Close())
}

func TestTheDescriptionIsServed(t *testing.T) {
	t.Parallel()
	in := start(t, nil, always)
	response, err := http.Get("http://" + in.Addr().String() + pathOpenAPI)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, string(openAPI), string(text))
}

func TestOfAnOrchestratorOneEventAtATimeIsUnderWay(t *testing.T) {
	t.Parallel()
	busy := make(map[protocol.OrchestratorID]chan struct{})
	for i := range 5 {
		busy[protocol.OrchestratorID(fmt.Sprintf("vp%d", i))] = make(chan struct{}, 1)
	}
	in := start(t, func(_ context.Context, e event.Event, _ []byte) (Outcome, error) {
		select {
		case busy[e.OrchestratorID] <- struct{}{}:
		default:
			return Outcome{}, ErrRefused
		}
		defer func() { <-busy[e.OrchestratorID] }()
		return Outcome{Sequence: 1}, nil
	}, always)
	var events []string
	for i := range 500 {
		events = append(events, sample(fmt.Sprint(i), fmt.Sprintf("vp%d", i%5)))
	}
	a := in.post("[" + strings.Join(events, ",") + "]")
	require.NotContains(t, a.statuses(), invalid)
}

func BenchmarkPublish(b *testing.B) {
	log := openLog(b, testserver.NATS(b, func(o *server.Options) { o.StoreDir = b.TempDir() }), unchanged)
	in := start(b, intoLog(log), always)
	client := http.Client{}
	for _, size := range []int{1, 100, MaxEvents} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			sent := 0
			for b.Loop() {
				var events []string
				for i := range size {
					events = append(events, sample(fmt.Sprintf("%d-%d", time.Now().UnixNano(), i), fmt.Sprintf("vp%d", i)))
				}
				sent += size
				response, err := client.Do(in.request(strings.NewReader("[" + strings.Join(events, ",") + "]")))
				require.NoError(b, err)
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				require.Equal(b, http.StatusOK, response.StatusCode)
			}
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// Regression: events are stored in goroutines of their own, where nobody recovered,
// so that a panic ended the bridge.
func TestAPanicOverAnEventFailsItAlone(t *testing.T) {
	t.Parallel()
	in := start(t, func(_ context.Context, e event.Event, _ []byte) (Outcome, error) {
		if e.ID == "panic" {
			panic("over an event")
		}
		return Outcome{}, nil
	}, always)
	a := in.post("[" + sample("panic", "vp") + "," + sample("after", "vp") + "," + sample("beside", "other") + "]")
	require.Equal(t, http.StatusServiceUnavailable, a.code)
	require.Equal(t, []status{failed, failed, stored}, a.statuses())
	require.Equal(t, []status{stored}, in.post(sample("next", "vp")).statuses())
}

// intoNothing stores everything nowhere.
func intoNothing(context.Context, event.Event, []byte) (Outcome, error) { return Outcome{}, nil }
