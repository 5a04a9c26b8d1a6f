package ring

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// With a dial for each message a hundred members made 2,000 a second each.
func TestMessagesToAMemberShareOneStream(t *testing.T) {
	t.Parallel()
	network := newMemory()
	here := func(s *setup) { s.listen = network.listen }
	a := start(t, TierEdge, "a", here)
	r := start(t, TierRouter, "r", here, a)
	meet(t, a, r)
	const batches = 200
	before := network.dials.Load()
	for i := range batches {
		a.Claim(claimOf(fmt.Sprint("o", i), uuid(i), 1))
		require.Eventually(t, func() bool { return r.table.total.Load() == int64(i+1) }, soon, poll)
	}
	// A push/pull now and then is memberlist's.
	require.Less(t, network.dials.Load()-before, int64(batches/2))
}

// In a rolling upgrade some members know nothing of streams that stay open.
func TestMembersOfAnOlderVersionTakePart(t *testing.T) {
	t.Parallel()
	older := func(s *setup) { s.standing = false }
	a := start(t, TierEdge, "a", older)
	b := start(t, TierEdge, "b", nil, a)
	c := start(t, TierEdge, "c", nil, a)
	r := start(t, TierRouter, "r", older, a)
	all := []*node{a, b, c, r}
	meet(t, all...)
	for _, edge := range all[:3] {
		edge.fill(100)
	}
	agree(t, all[:3], all...)
}

// keyring returns keys of one letter each, the first in front.
func keyring(t *testing.T, letters string) *memberlist.Keyring {
	t.Helper()
	var keys []settings.Secret
	for _, letter := range letters {
		keys = append(keys, settings.Secret(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(letter), 32)))))
	}
	ring, err := parseKeys(keys)
	require.NoError(t, err)
	return ring
}

// end takes streams in; what comes is in messages.
type end struct {
	net.Listener
	receiver *receiver
	messages chan string
	opened   chan net.Conn
}

func receiveWith(t *testing.T, keys *memberlist.Keyring) *end {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &end{Listener: listener, messages: make(chan string, 16), opened: make(chan net.Conn, 16)}
	e.receiver = &receiver{
		cluster: "c", keys: keys, bounds: newStreams(func(dropReason) {}), logger: slog.New(slog.DiscardHandler),
		take: func(message []byte) { e.messages <- string(message) },
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			e.opened <- conn
			s, ok := e.receiver.bounds.enter(conn)
			if kind, err := s.begin(); !ok || err != nil || kind != standingKind {
				_ = s.Close()
				continue
			}
			e.receiver.serve(s)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return e
}

func (e *end) from(keys *memberlist.Keyring) *standing {
	return &standing{cluster: "c", keys: keys, dial: func() (net.Conn, error) { return net.Dial("tcp", e.Addr().String()) }}
}

func TestAStreamTakesMessageAfterMessage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ sender, receiver string }{
		"sealed":                           {"k", "k"},
		"with a key of the receiver's":     {"n", "on"},
		"with the first key of the sender": {"on", "o"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := receiveWith(t, keyring(t, test.receiver))
			s := e.from(keyring(t, test.sender))
			defer s.close()
			for _, text := range []string{"first", strings.Repeat("long", 100_000), ""} {
				require.NoError(t, s.send([]byte(text)))
				require.Equal(t, text, <-e.messages, "it is answered when it has been taken in")
			}
			require.Len(t, e.opened, 1)
		})
	}
	t.Run("without keys", func(t *testing.T) {
		t.Parallel()
		e := receiveWith(t, nil)
		s := e.from(nil)
		defer s.close()
		require.NoError(t, s.send([]byte("plain")))
		require.Equal(t, "plain", <-e.messages)
	})
}

// A stream may be gone without a word: the member has been restarted behind the
// same address, or something between has forgotten the connection.
func TestAStreamThatIsGoneIsReplacedAndNothingLost(t *testing.T) {
	t.Parallel()
	e := receiveWith(t, keyring(t, "k"))
	s := e.from(keyring(t, "k"))
	defer s.close()
	for range 3 {
		require.NoError(t, s.send([]byte("message")))
		require.Equal(t, "message", <-e.messages)
		require.NoError(t, (<-e.opened).Close())
	}
}

func TestStreamsOfStrangersEndWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*standing){
		"another key":     func(s *standing) { s.keys = keyring(t, "x") },
		"no key":          func(s *standing) { s.keys = nil },
		"another cluster": func(s *standing) { s.cluster = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := receiveWith(t, keyring(t, "k"))
			s := e.from(keyring(t, "k"))
			defer s.close()
			change(s)
			require.Error(t, s.send([]byte("message")))
			require.Empty(t, e.messages)
		})
	}
}

// What is sealed for one place in one stream opens nowhere else.
func TestASealedMessageOpensInItsPlaceAlone(t *testing.T) {
	t.Parallel()
	seal := func(key, salt, cluster string) *sealing {
		s, err := newSealing([]byte(strings.Repeat(key, 32)), []byte(strings.Repeat(salt, saltBytes)), cluster)
		require.NoError(t, err)
		return s
	}
	sender := seal("k", "s", "c")
	first, second := sender.seal(nil, []byte("first")), sender.seal(nil, []byte("second"))
	for name, test := range map[string]struct {
		by     *sealing
		sealed []byte
	}{
		"out of order":       {seal("k", "s", "c"), second},
		"in another stream":  {seal("k", "t", "c"), first},
		"of another key":     {seal("x", "s", "c"), first},
		"in another cluster": {seal("k", "s", "d"), first},
		"changed":            {seal("k", "s", "c"), append(slices.Clone(first[:len(first)-1]), first[len(first)-1]^1)},
	} {
		_, err := test.by.open(slices.Clone(test.sealed))
		require.Error(t, err, name)
	}
	receiver := seal("k", "s", "c")
	for _, message := range [][]byte{first, second} {
		_, err := receiver.open(slices.Clone(message))
		require.NoError(t, err)
	}
	_, err := receiver.open(slices.Clone(second))
	require.Error(t, err, "twice")
}

// A stranger says that much is to come, and gets no further.
func TestAStreamThatStaysOpenIsNotReadFarForStrangers(t *testing.T) {
	t.Parallel()
	a := start(t, TierEdge, "a", withKey)
	for name, length := range map[string]uint32{"too long": streamBytes + 1, "not of a member": 100} {
		conn := stranger(t, a)
		text := append([]byte{standingKind, standingVersion}, make([]byte, saltBytes)...)
		text = append(append(text, byte(len(a.cfg.ClusterName))), a.cfg.ClusterName...)
		text = binary.BigEndian.AppendUint32(text, length)
		_, err := conn.Write(append(text, make([]byte, 100)...))
		require.NoError(t, err, name)
		_, err = bufio.NewReader(conn).ReadByte()
		require.Error(t, err, name)
	}
	require.Eventually(t, func() bool {
		return testutil.ToFloat64(a.metrics.drops.Of(dropStreamBytes)) == 1 && testutil.ToFloat64(a.metrics.drops.Of(dropMalformed)) == 1
	}, soon, poll)
}
