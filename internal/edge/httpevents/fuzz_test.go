package httpevents_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/edge/httpevents"
	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func FuzzQueries(f *testing.F) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f.Add("limit=10&since=2026-11-22T09:00:00.000Z")
	f.Add("since=2026-11-22T09:00:00+02:00&limit=1000")
	f.Add("since=0001-01-01T00:00:00Z&limit=-1")
	f.Add("since=%00&limit=1e3&limit=7;x")
	f.Fuzz(func(t *testing.T, raw string) {
		values, _ := url.ParseQuery(raw) // as http.Request.URL.Query does
		q, err := httpevents.ParseQuery(values, now)
		if err != nil {
			quotetest.RequireLittle(t, []byte(raw), err)
			return
		}
		require.GreaterOrEqual(t, q.Limit, 1)
		require.LessOrEqual(t, q.Limit, httpevents.MaxLimit)
		require.False(t, q.Since.Before(time.Unix(0, 0)))
		again, err := httpevents.ParseQuery(url.Values{
			"limit": {fmt.Sprint(q.Limit)}, "since": {q.Since.UTC().Format(time.RFC3339Nano)},
		}, now)
		require.NoError(t, err)
		require.Equal(t, q.Limit, again.Limit)
		require.True(t, q.Since.Equal(again.Since))
	})
}

func FuzzAcks(f *testing.F) {
	f.Add([]byte(`{"eventIds":["event_1","event_2","event_1"]}`))
	f.Add([]byte(`{"eventIds":["",7]}`))
	f.Add([]byte(`{"EVENTIDS":["a"],"eventIds":[]}`))
	f.Add([]byte(`{"eventIds":["a"],"eventIds":["b"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ids, err := httpevents.ParseAck(body)
		if err != nil {
			require.Empty(t, ids)
			quotetest.RequireLittle(t, body, err)
			return
		}
		require.LessOrEqual(t, len(ids), protocol.MaxAckIDs)
		seen := map[string]bool{}
		for _, id := range ids {
			require.NotEmpty(t, id)
			require.LessOrEqual(t, len(id), protocol.MaxIDBytes)
			require.False(t, seen[id], "each once")
			seen[id] = true
		}
	})
}
