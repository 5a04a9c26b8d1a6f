package cursor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// A connection begins once more because its daemon has subscribed to more. What its
// first start has written is wider than that, by the bounds of an entry.
func TestAStartThatIsDecidedOnceMoreHandsNobodyBack(t *testing.T) {
	t.Parallel()
	narrow := defaultLimits
	narrow.subscriptionBytes = 20
	long := []protocol.Subscription{{Pattern: "a.*"}, {Pattern: "b.*", Channels: []string{"channel-1", "channel-2"}}}
	more := append(long[:2:2], protocol.Subscription{Pattern: "c.*"})
	before := Record{Epoch: epoch0, Daemons: map[protocol.DaemonID]Entry{"c": of(1, 5, "", wants("a.*"))}}
	request := StartRequest{Daemon: "d", Edge: here, Epoch: epoch0, Now: time.Unix(100, 0), Subscriptions: long}
	first, d := start(before, request, narrow)
	require.Equal(t, []protocol.DaemonID{"c"}, d.Entry.AnswersFor)
	for name, c := range map[string]struct {
		since uint64
		names []protocol.DaemonID
	}{
		"of this connection":             {d.Entry.Generation, []protocol.DaemonID{"c"}},
		"of another one":                 {d.Entry.Generation - 1, nil},
		"since which it has wanted less": {0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := request
			request.Subscriptions, request.Since = more, c.since
			require.Equal(t, c.names == nil, Incomplete(first, request))
			_, again := start(first, request, narrow)
			require.Equal(t, c.names, again.Entry.AnswersFor)
		})
	}
}
