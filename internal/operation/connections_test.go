package operation

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Ids are what daemons call themselves, and JSON writes some characters with six.
func TestAnAnswerFitsIntoAMessageHoweverLongIDsAre(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x01", protocol.MaxIDBytes)
	channels := slices.Repeat([]string{long}, protocol.MaxChannelIDs)
	var all []Connection
	for n := range 2 * MaxConnections {
		all = append(all, Connection{
			Session: fmt.Sprintf("%04d", n), Orchestrator: long, Daemon: long, Address: netip.MustParseAddr("2001:db8::1"),
			Since: time.Now(), TokenExpires: time.Now(), Position: long,
			Subscriptions: slices.Repeat([]string{Subscribed(protocol.Subscription{Pattern: "message.*", Channels: channels})}, MaxSubscriptions),
		})
	}
	report, err := ConnectionsRequest{Limit: MaxConnections}.Select("edge", all)
	require.NoError(t, err)
	require.Equal(t, 2*MaxConnections, report.Total)
	require.NotEmpty(t, report.Connections)
	require.Equal(t, "0000", report.Connections[0].Session, "the first are told of")
	text, err := json.Marshal(report)
	require.NoError(t, err)
	require.Less(t, len(text), server.MAX_PAYLOAD_SIZE-answerRoom)
}
