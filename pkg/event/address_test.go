package event_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]event.Token{
		"":                   "",
		"clx1_A-9":           "clx1_A-9",
		"a.b":                "a=2Eb",
		"a=b":                "a=3Db",
		"=":                  "=3D",
		"=2E":                "=3D2E",
		"* >\x00\x7f":        "=2A=20=3E=00=7F",
		"ü":                  "=C3=BC",
		"\xff":               "=FF",
		"daemon_session_x_1": "daemon_session_x_1",
	} {
		require.Equal(t, want, event.TokenOf(id))
		back, err := want.ID()
		require.NoError(t, err)
		require.Equal(t, id, back)
	}
}

func TestEveryByteHasATokenOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := map[event.Token]bool{event.SentinelToken: true}
	for c := range 256 {
		token := event.TokenOf(string([]byte{byte(c)}))
		require.False(t, seen[token])
		seen[token] = true
	}
}

func TestTextThatIsNoTokenIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []event.Token{event.SentinelToken, "a.b", "a b", "=", "=2", "a=", "=2e", "=zz", "=41", "ü", "=2E=", "*", ">"} {
		_, err := text.ID()
		require.Error(t, err, text)
		_, err = text.Orchestrator()
		require.Error(t, err, text)
	}
}

func TestTokenOfAnOrchestrator(t *testing.T) {
	t.Parallel()
	id, err := event.Token("a=2Eb").Orchestrator()
	require.NoError(t, err)
	require.Equal(t, protocol.OrchestratorID("a.b"), id)
	for _, bad := range []event.Token{"", "=FF", event.Token(strings.Repeat("x", 129))} {
		_, err = bad.Orchestrator()
		require.Error(t, err, bad)
	}
}

func FuzzTokenRoundTrip(f *testing.F) {
	f.Add("clx1")
	f.Add("a.b=c ü\xff")
	f.Fuzz(func(t *testing.T, id string) {
		token := event.TokenOf(id)
		back, err := token.ID()
		require.NoError(t, err)
		require.Equal(t, id, back)
		require.NotContains(t, string(token), ".")
		// Whatever text is taken for a token decodes to an id that encodes to it.
		if decoded, err := event.Token(id).ID(); err == nil {
			require.Equal(t, event.Token(id), event.TokenOf(decoded))
		}
	})
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	require.Equal(t, "daemon.events.7.a=2Eb", event.Subject(7, "a=2Eb"))
	require.Equal(t, "DAEMON_EVENTS_7", event.StreamName(7))
	require.Equal(t, "a=2Eb/e=2F1", event.MessageID("a=2Eb", "e/1"))
	require.NotEqual(t, event.MessageID("a", "b/c"), event.MessageID("a/b", "c"))
}

func TestLongestSubjectFitsAControlLine(t *testing.T) {
	t.Parallel()
	token := event.TokenOf(strings.Repeat(".", protocol.MaxIDBytes))
	require.Less(t, len(event.Subject(1<<16, token))+len(event.MessageID(token, strings.Repeat(".", protocol.MaxIDBytes))), server.MAX_CONTROL_LINE_SIZE/2)
}

// A backend may leave the partition to a mapping on the server: both must agree.
func TestPartitionIsTheServersOwn(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 7, 16, 64} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			t.Parallel()
			nc := mappingServer(t, partitions)
			sub := testserver.Listen(t, nc, "daemon.events.*.*")
			seen := map[event.Partition]bool{}
			const ids = 1000
			for i := range ids {
				token := event.TokenOf(fmt.Sprintf("clx%d.%s", i*7919, strings.Repeat("ü", i%5)))
				require.NoError(t, nc.Publish(event.SubjectPrefix+"."+string(token), nil))
				msg, err := sub.NextMsg(testserver.Patience)
				require.NoError(t, err)
				p := event.PartitionOf(token, partitions)
				require.Equal(t, event.Subject(p, token), msg.Subject)
				seen[p] = true
			}
			require.Len(t, seen, partitions)
		})
	}
}

func mappingServer(t *testing.T, partitions int) *nats.Conn {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	destination := fmt.Sprintf("daemon.events.{{partition(%d,1)}}.{{wildcard(1)}}", partitions)
	require.NoError(t, s.GlobalAccount().AddMapping("daemon.events.*", destination))
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(testserver.Patience))
	return testserver.Connect(t, s.ClientURL())
}
