package ring

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/access"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
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

// Regression: four lengths of 4 MiB, and not a byte more, took an address's share of
// the room of all.
func TestWhatIsDeclaredAndNotSentTakesNoRoom(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	r := &receiver{cluster: "c", keys: keyring(t, "k"), bounds: newStreams(func(dropReason) {}), logger: slog.New(slog.DiscardHandler)}
	declared := append(append([]byte{standingKind, standingVersion}, make([]byte, saltBytes)...), 1, 'c')
	declared = append(binary.BigEndian.AppendUint32(declared, streamBytes), 'x')
	const streams = 16
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	for range streams {
		client, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Close() })
		_, err = client.Write(declared)
		require.NoError(t, err)
		conn, err := listener.Accept()
		require.NoError(t, err)
		s, ok := r.bounds.enter(conn)
		require.True(t, ok)
		serving.Go(func() {
			_, err := s.begin()
			require.NoError(t, err)
			r.serve(s)
		})
	}
	from := access.Network(netip.MustParseAddr("127.0.0.1"))
	require.Eventually(t, func() bool { return !r.bounds.bytes.Fits(from, openBytes/2-streams*messagePiece+1) }, soon, poll, "all are being read")
	require.True(t, r.bounds.bytes.Fits(netip.MustParseAddr("192.0.2.1"), (openBytes-streams*messagePiece)/2))
}

// heard keeps what is written to a connection.
type heard struct {
	net.Conn
	text *bytes.Buffer
}

func (h heard) Write(p []byte) (int, error) {
	h.text.Write(p)
	return h.Conn.Write(p)
}

// Regression: whoever could listen, and had no key, took members' places.
func TestAStreamThatWasRecordedIsNotTakenAgain(t *testing.T) {
	t.Parallel()
	e := receiveWith(t, keyring(t, "k"))
	var recorded bytes.Buffer
	s := e.from(keyring(t, "k"))
	dial := s.dial
	s.dial = func() (net.Conn, error) {
		conn, err := dial()
		return heard{conn, &recorded}, err
	}
	require.NoError(t, s.send([]byte("message")))
	require.Equal(t, "message", <-e.messages)
	s.close()

	conn, err := net.Dial("tcp", e.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write(recorded.Bytes())
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(soon)))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.Empty(t, e.messages)

	again := e.from(keyring(t, "k"))
	defer again.close()
	require.NoError(t, again.send([]byte("of a member")))
}

func TestOnlySoManyStreamsAreRemembered(t *testing.T) {
	t.Parallel()
	var r receiver
	salt := func(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, saltBytes-8), uint64(n)) }
	for n := range maxSalts + 1 {
		require.True(t, r.isNew(salt(n)))
	}
	require.Len(t, r.salts, maxSalts)
	require.False(t, r.isNew(salt(maxSalts)))
	require.True(t, r.isNew(salt(0)), "the oldest is forgotten")
}

// A member of another kind must not fill the log.
func TestMessagesThatAreRefusedAreToldOfNowAndThen(t *testing.T) {
	t.Parallel()
	told := &testserver.Journal{}
	a := start(t, TierEdge, "a", func(s *setup) {
		withKey(s)
		s.logger = slog.New(slog.NewTextHandler(told, nil))
	})
	s := &standing{cluster: a.cfg.ClusterName, keys: a.keys, dial: func() (net.Conn, error) { return net.Dial("tcp", a.Self().Address) }}
	defer s.close()
	const messages = 200
	for range messages {
		require.NoError(t, s.send([]byte("no message of a member")))
	}
	require.Eventually(t, func() bool { return testutil.ToFloat64(a.metrics.drops.Of(dropMalformed)) == messages }, soon, poll)
	require.Less(t, strings.Count(told.String(), "refused"), messages/2)
}
