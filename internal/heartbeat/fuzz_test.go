package heartbeat_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/heartbeat"
	"github.com/neolith/daemon-gateway/internal/quote/quotetest"
)

// What comes of a batch can be used by whoever reads it, and means the same when
// it is written again.
func FuzzBatches(f *testing.F) {
	whole, err := json.Marshal([]heartbeat.Beat{beat("one"), beat("two")})
	require.NoError(f, err)
	f.Add(whole)
	f.Add([]byte(`[{"orchestratorId":"vp","daemonId":"d","metrics":{"errors":3},"connectedAt":"2026-11-22T10:00:00+02:00","opened":true}]`))
	f.Add([]byte(`[{"orchestratorId":"o","daemonId":"a"},{"orchestratorId":7e999},{"receivedAt":"soon"},{"orchestratorId":"o","daemonId":"b","report":[]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		beats, err := heartbeat.Decode(data)
		quotetest.RequireLittle(t, data, err)
		require.LessOrEqual(t, 2*len(beats), len(data))
		for _, b := range beats {
			require.NoError(t, b.Orchestrator.Validate())
			require.NoError(t, b.Daemon.Validate())
			require.True(t, len(b.Metrics) == 0 || b.Metrics[0] == '{', "metrics are an object: %s", b.Metrics)
		}
		if len(beats) == 0 {
			return
		}
		written, err := json.Marshal(beats)
		require.NoError(t, err)
		again, err := heartbeat.Decode(written)
		require.NoError(t, err)
		rewritten, err := json.Marshal(again)
		require.NoError(t, err)
		require.True(t, bytes.Equal(written, rewritten), "%s became %s", written, rewritten)
	})
}

func FuzzSubjects(f *testing.F) {
	f.Add("daemon.heartbeats.7")
	f.Add("daemon.heartbeats.-1")
	f.Add("daemon.events.1.o")
	f.Add("\x17\xcf\xd4\xca\x88\xc2\xe6\r\x93l\x92\xd7C\xa5\xc5P\x9f\x9f\x83\x8a\xaa")
	f.Fuzz(func(t *testing.T, subject string) {
		p, err := heartbeat.PartitionOf(subject)
		quotetest.RequireLittle(t, []byte(subject), err)
		if err == nil {
			again, err := heartbeat.PartitionOf(heartbeat.Subject(p))
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
	})
}
