package admin_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/admin"
)

// request asks with a method, and headers as "Name: value".
func request(t *testing.T, method, url string, headers ...string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content)
}

func TestTheIndexLeadsToEachPage(t *testing.T) {
	t.Parallel()
	n, _ := node(admin.Check{Name: "nats", Ready: func() (bool, string) { return false, "<away>" }})
	n.Pages = []admin.Page{{Path: "/things", About: "things", Show: func(query url.Values) (any, error) {
		if query.Get("of") == "nobody" {
			return nil, errors.New("of: nobody has things")
		}
		return map[string]int{"things": 3}, nil
	}}}
	base := serve(t, n)
	status, contentType, body := get(t, base+"/")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "text/html; charset=utf-8", contentType)
	require.Contains(t, body, "edge edge-1")
	require.Contains(t, body, "Not ready")
	require.Contains(t, body, "&lt;away&gt;")
	require.NotContains(t, body, "<script")
	links := strings.Split(body, `<a href="`)[1:]
	require.Len(t, links, 8)
	for _, l := range links {
		path, _, _ := strings.Cut(l, `"`)
		status, _, _ := get(t, base+path)
		require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, status, path)
	}
	_, _, body = get(t, base+"/things")
	require.JSONEq(t, `{"things":3}`, body)
	status, _, body = get(t, base+"/things?of=nobody")
	require.Equal(t, http.StatusBadRequest, status)
	require.JSONEq(t, `{"error":"of: nobody has things"}`, body)
	_, _, body = get(t, base+"/settings")
	require.Contains(t, body, "ADMIN_ADDR=:9090\n")
	status, _, _ = get(t, base+"/nothing")
	require.Equal(t, http.StatusNotFound, status)
}

func TestTheLogLevelIsChangedForAWhileAndItIsWrittenDown(t *testing.T) {
	t.Parallel()
	n, written := node()
	base := serve(t, n)
	status, body := request(t, http.MethodPut, base+"/log-level?level=debug&for=10m&orchestrator=orch&by=jane&because=slow")
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, `"level": "DEBUG"`)
	require.Len(t, n.Log.Changes(), 1)
	require.Regexp(t, `"act":"operator_acted","reason":"log_level","level":"DEBUG".*"orchestrator":"orch".*"address":"127.0.0.1:\d+","by":"jane","because":"slow"`,
		written.String())
	_, _, body = get(t, base+"/log-level")
	require.Contains(t, body, `"orchestrator": "orch"`)
	_, _, body = get(t, base+"/log")
	require.Contains(t, body, `"reason":"log_level"`)
}

func TestALogLevelThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	n, written := node()
	base := serve(t, n)
	for query, want := range map[string]string{
		"":                                    `level: got \"\", expected one of debug, info, warn, error`,
		"?level=loud":                         `level: got \"loud\"`,
		"?level=debug&for=x":                  `for: got \"x\", expected a duration such as 10m, from 1s to 24h`,
		"?level=debug&orchestrater=x":         `\"orchestrater\" is no parameter, expected level, for, orchestrator, daemon`,
		"?level=debug&level=info":             "level is given twice",
		"?level=%ff%fe%00":                    "level: got",
		"?level=debug&for=0s":                 "for: got",
		"?level=" + strings.Repeat("x", 5000): "level: got",
	} {
		status, body := request(t, http.MethodPut, base+"/log-level"+query)
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Contains(t, body, want, query)
		require.Less(t, len(body), 400)
	}
	status, _ := request(t, http.MethodPost, base+"/log-level?level=debug")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.Empty(t, n.Log.Changes())
	require.Empty(t, written.String())
}

var profilePaths = []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"}

// asElsewhere has requests come from another machine.
const asElsewhere = "X-Forwarded-For: 192.0.2.1"

func TestProfilesAreForThisMachineUnlessASettingOrSomebodyHereOpensThem(t *testing.T) {
	t.Parallel()
	for _, always := range []bool{false, true} {
		n, written := node()
		n.Profiles = always
		base := serve(t, n)
		elsewhere := http.StatusForbidden
		if always {
			elsewhere = http.StatusOK
		}
		expect := func(status int, headers ...string) {
			t.Helper()
			for _, path := range profilePaths {
				got, body := request(t, http.MethodGet, base+path, headers...)
				require.Equal(t, status, got, "%s: %s", path, body)
			}
		}
		expect(http.StatusOK)
		expect(elsewhere, asElsewhere)
		status, _ := request(t, http.MethodPut, base+"/profiles?for=10m", asElsewhere)
		require.Equal(t, http.StatusForbidden, status)
		status, body := request(t, http.MethodPut, base+"/profiles?for=x")
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, body, "expected a duration such as 10m")
		status, _ = request(t, http.MethodPut, base+"/profiles?for=10m&by=jane")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, written.String(), `"reason":"profiles_opened"`)
		expect(http.StatusOK, asElsewhere)
		status, _ = request(t, http.MethodPut, base+"/profiles?for=0s")
		require.Equal(t, http.StatusOK, status)
		expect(elsewhere, asElsewhere)
	}
}

// Without any header, too: what counts is where the connection comes from.
func TestAnotherMachineIsNotThisOne(t *testing.T) {
	t.Parallel()
	n, _ := node()
	handler := admin.Handler(n)
	for from, want := range map[string]int{
		"127.0.0.1:1": http.StatusOK, "[::1]:1": http.StatusOK, "192.0.2.1:1": http.StatusForbidden, "[2001:db8::1]:1": http.StatusForbidden, "": http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, from)
	}
}
