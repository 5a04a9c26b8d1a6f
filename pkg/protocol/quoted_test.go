package protocol

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Replies wait in the edge's memory for a client that reads nothing.
func TestAReplyIsMuchSmallerThanWhatItAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 60_000)
	// In a reply each of these is five bytes: escaped twice.
	control := strings.Repeat(`\u0001`, MaxEventTypeBytes)
	names := func(name string) string {
		return strings.TrimSuffix(strings.Repeat(`"`+name+`",`, MaxSubscriptions), ",")
	}
	message := func(kind, payload string) string {
		return fmt.Sprintf(`{"type":%q,"id":"1","timestamp":"2026-11-22T10:00:00Z","payload":%s}`, kind, payload)
	}
	for name, text := range map[string]string{
		"a name":          message("subscribe", `{"eventTypes":["`+long+`"]}`),
		"names":           message("subscribe", `{"eventTypes":[`+names(strings.Repeat("x", MaxEventTypeBytes))+`]}`),
		"control":         message("subscribe", `{"eventTypes":[`+names(control)+`]}`),
		"a pattern":       message("subscribe", `{"eventTypes":["`+long+`.*"]}`),
		"a channel":       message("subscribe", `{"eventTypes":["*"],"channelIds":["`+long+`"]}`),
		"names to remove": message("unsubscribe", `{"eventTypes":[`+names(control)+`]}`),
		"an id to ack":    message("ack", `{"eventIds":["`+long+`"]}`),
		"a type":          message(long, `{}`),
		"a token":         message("auth", `{"accessToken":"`+long+`","daemonId":"`+long+`"}`),
		"a status":        message("heartbeat", `{"status":"`+long+`","inProgress":["`+long+`"]}`),
		"an id":           `{"type":"ack","id":"` + long + `"}`,
		"a timestamp":     `{"type":"ack","id":"1","timestamp":"` + long + `"}`,
		"no JSON":         long,
	} {
		_, fault := ParseClientMessage([]byte(text))
		require.NotNil(t, fault, name)
		reply := AppendFrame(nil, time.Now(), fault)
		require.Less(t, len(reply), 24<<10, name)
		require.NotContains(t, string(reply), strings.Repeat("x", 65), name)
	}
}
