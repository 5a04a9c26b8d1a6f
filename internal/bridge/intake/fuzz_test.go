package intake

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// A file of keys is read line by line, and what stands in it is never said: it
// may be a key.
func FuzzKeyFiles(f *testing.F) {
	f.Add([]byte("backend " + hashOf(key) + "\n# a comment\n\n other " + hashOf(otherKey) + " \r\n"))
	f.Add([]byte("backend " + key + "\nbackend " + hashOf(key)))
	f.Add([]byte("a " + hashOf(key) + "\nb " + hashOf(key)))
	f.Add([]byte("a " + hashOf(key) + " vp other.one\nb " + hashOf(otherKey) + " _canary_x"))
	expected := regexp.MustCompile(`^line \d+: (expected a name and 64 hexadecimal digits|expected ids of orchestrators behind the key|the name or the key is in the file twice)$|token too long$`)
	f.Fuzz(func(t *testing.T, text []byte) {
		list, wrong, err := parseKeys(text)
		if err != nil {
			require.Regexp(t, expected, err.Error())
		}
		require.True(t, err != nil || len(wrong) == 0)
		lines := bytes.Count(text, []byte("\n")) + 1
		require.LessOrEqual(t, len(list)+len(wrong), lines)
		var written bytes.Buffer
		names := map[string]bool{}
		for hash, who := range list {
			require.NotEmpty(t, who.name)
			require.False(t, names[who.name], "each name once")
			names[who.name] = true
			fmt.Fprint(&written, who.name, " ", hex.EncodeToString(hash[:]))
			for id := range who.only {
				require.NoError(t, id.Validate())
				fmt.Fprint(&written, " ", id)
			}
			fmt.Fprintln(&written)
		}
		again, _, err := parseKeys(written.Bytes())
		require.NoError(t, err)
		require.Equal(t, list, again)
	})
}

// A body is cut into the texts that encoding/json finds in it.
func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"id":"e","type":"a.b","orchestratorId":"o","payload":{}}`))
	f.Add([]byte(` [ {"id":"e","type":"a.b","orchestratorId":"o","payload":{"a":1}} , 7, "x" ] `))
	f.Add([]byte(`[{"id":7,"type":"nonsense","orchestratorId":"_canary_x","payload":[]}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		texts, err := split(body)
		if err != nil {
			quotetest.RequireLittle(t, body, err)
			return
		}
		require.NotEmpty(t, texts)
		require.LessOrEqual(t, len(texts), MaxEvents)
		var all []json.RawMessage
		if json.Unmarshal(body, &all) != nil {
			all = []json.RawMessage{bytes.TrimSpace(body)}
		}
		require.True(t, slices.EqualFunc(all, texts, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }), "%s", texts)
		for _, text := range texts {
			s := read(text, event.DefaultMaxBytes)
			require.Contains(t, []status{"", invalid}, s.result.Status)
			if s.result.Status == "" {
				require.False(t, s.event.OrchestratorID.Reserved())
				continue
			}
			require.LessOrEqual(t, len(s.result.ID), 70)
			quotetest.RequireLittle(t, text, fmt.Errorf("%s %s", s.result.Error.Field, s.result.Error.Message))
		}
	})
}

// Whatever is sent instead of a request: nothing is stored without a key, and
// the answer is JSON that is not much longer than what it is about.
func FuzzRequests(f *testing.F) {
	const good = `{"id":"e","type":"a.b","orchestratorId":"o","payload":{}}`
	request := func(head, body string) []byte {
		return fmt.Appendf(nil, "%s\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	f.Add(request("POST /v1/events HTTP/1.1\r\nAuthorization: Bearer "+key+"\r\nContent-Type: application/json; charset=utf-8", good))
	f.Add(request("POST /v1/events HTTP/1.1\r\nAuthorization: bearer  wrong\r\nContent-Type: application/json", good))
	f.Add(request("GET /v1/events HTTP/1.1\r\nX-Forwarded-For: 10.0.0.1", ""))
	f.Add([]byte("POST /v1/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + key + "\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n3\r\n[7]\r\n0\r\n\r\n"))
	f.Add([]byte("POST /v1/openapi.yaml?x=%zz HTTP/1.0\r\n\r\n"))
	cfg := settings.Default[Config]()
	cfg.HTTPAddr, cfg.APIKeysFile = "127.0.0.1:0", keyFile(f, "backend "+hashOf(key))
	var stored atomic.Int64
	in, err := New(cfg, func(context.Context, event.Event, []byte) (Outcome, error) {
		stored.Add(1)
		return Outcome{}, nil
	}, func() bool { return true }, event.DefaultMaxBytes, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(f, err)
	f.Cleanup(func() { _ = in.Close() })
	handler := in.handler()
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return // no request
		}
		r.RemoteAddr = "192.0.2.1:5"
		stored.Store(0)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if !bytes.Contains(data, []byte(key)) {
			require.Zero(t, stored.Load())
			require.True(t, answer.Code != http.StatusOK || answer.Header().Get("Content-Type") == "application/yaml")
		}
		if kind := answer.Header().Get("Content-Type"); kind != "application/json" {
			require.Contains(t, []int{http.StatusOK, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}, answer.Code, kind)
			return
		}
		require.True(t, json.Valid(answer.Body.Bytes()), "%s", answer.Body)
		require.LessOrEqual(t, answer.Body.Len(), 1000+10*len(data))
	})
}
