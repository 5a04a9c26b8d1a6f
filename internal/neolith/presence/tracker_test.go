package presence

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	grace = 15 * time.Second
	part  = event.Partition(3)
)

var start = time.Unix(1_000_000, 0)

func after(d time.Duration) time.Time { return start.Add(d) }

// loaded returns a tracker that writes the partition under term 1.
func loaded(shown map[event.Token]Status, connected ...event.Token) *tracker {
	t := newTracker(grace, 100)
	t.begin(part, connected)
	t.load(part, 1, shown, start)
	return t
}

// storeAll takes the changes as written, and returns them by orchestrator.
func storeAll(t *tracker) map[event.Token]Status {
	stored := make(map[event.Token]Status)
	for _, c := range t.changes(1000) {
		stored[c.Orchestrator] = c.Status
		t.written(c)
	}
	return stored
}

type statuses = map[event.Token]Status

func TestTheFirstConnectionIsOnlineAndTheLastGoneAfterTheGrace(t *testing.T) {
	t.Parallel()
	tr := loaded(nil)
	tr.connect(part, "a")
	require.Equal(t, statuses{"a": Online}, storeAll(tr))
	tr.disconnect(part, "a", start)
	tr.tick(after(grace - 1))
	require.Empty(t, storeAll(tr))
	tr.tick(after(grace))
	require.Equal(t, statuses{"a": Gone}, storeAll(tr))
	require.Empty(t, tr.partitions[part].entries, "who is gone is forgotten")
}

func TestWhoComesBackWithinTheGraceWasNeverAway(t *testing.T) {
	t.Parallel()
	tr := loaded(statuses{"a": Busy}, "a")
	tr.disconnect(part, "a", start)
	tr.connect(part, "a")
	tr.tick(after(grace))
	require.Empty(t, storeAll(tr))
	tr.disconnect(part, "a", after(grace))
	tr.tick(after(2*grace - 1))
	require.Empty(t, storeAll(tr), "the second absence has a grace of its own")
	tr.tick(after(2 * grace))
	require.Equal(t, statuses{"a": Gone}, storeAll(tr))
}

func TestHeartbeatsSayWhatIsShown(t *testing.T) {
	t.Parallel()
	tr := loaded(nil)
	tr.connect(part, "a")
	for said, want := range map[protocol.Status]Status{
		protocol.StatusBusy: Busy, protocol.StatusIdle: Away, protocol.StatusActive: Online,
	} {
		tr.beat(part, "a", said)
		require.Equal(t, want, storeAll(tr)["a"])
		tr.beat(part, "a", said)
		tr.beat(part, "a", "")
		tr.beat(part, "a", "asleep")
		require.Empty(t, storeAll(tr), "nothing has changed")
	}
	tr.beat(part, "b", protocol.StatusBusy)
	require.Empty(t, storeAll(tr), "a heartbeat does not connect anybody")
}

func TestOnlyTheNewestStatusIsWritten(t *testing.T) {
	t.Parallel()
	tr := loaded(nil)
	tr.connect(part, "a")
	tr.beat(part, "a", protocol.StatusBusy)
	tr.beat(part, "a", protocol.StatusIdle)
	changes := tr.changes(10)
	require.Equal(t, []Change{{Partition: part, Term: 1, Orchestrator: "a", Status: Away}}, changes)
	tr.beat(part, "a", protocol.StatusBusy) // while it is being written
	tr.written(changes[0])
	require.Equal(t, statuses{"a": Busy}, storeAll(tr))
	tr.beat(part, "a", protocol.StatusIdle)
	tr.beat(part, "a", protocol.StatusBusy)
	require.Empty(t, storeAll(tr), "it is what is written again")
}

func TestWhatSomebodyElseWroteIsWrittenAgain(t *testing.T) {
	t.Parallel()
	tr := loaded(statuses{"a": Busy, "gone": Online}, "a", "gone")
	require.Equal(t, []event.Partition{part}, tr.loaded())
	tr.differs(part, "a")
	require.Equal(t, statuses{"a": Busy}, storeAll(tr))
	tr.disconnect(part, "gone", start)
	tr.differs(part, "gone")
	tr.differs(part, "nobody")
	tr.differs(part+1, "a")
	require.Empty(t, storeAll(tr), "who has just gone may be connected elsewhere")
	tr.lose(part, after(time.Second))
	require.Empty(t, tr.loaded())
}

func TestANewWriterWritesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	tr := loaded(statuses{"stays": Busy, "left": Online, "right": Online}, "stays", "right", "came")
	require.Equal(t, statuses{"came": Online}, storeAll(tr))
	tr.tick(after(grace))
	require.Equal(t, statuses{"left": Gone}, storeAll(tr))
}

func TestWhatHappensBeforeTheLoadIsNotForgotten(t *testing.T) {
	t.Parallel()
	tr := newTracker(grace, 100)
	tr.begin(part, []event.Token{"busy", "gone", "back"})
	tr.beat(part, "busy", protocol.StatusBusy)
	tr.disconnect(part, "gone", start)
	tr.disconnect(part, "back", start)
	tr.tick(after(grace))
	tr.connect(part, "back")
	require.Empty(t, tr.changes(10), "nothing is written before it is known what was")
	tr.load(part, 1, statuses{"gone": Away, "back": Away}, after(grace))
	require.Equal(t, statuses{"busy": Busy, "gone": Gone}, storeAll(tr))
}

func TestAnotherWriterIsLeftAlone(t *testing.T) {
	t.Parallel()
	tr := loaded(nil)
	tr.connect(part, "a")
	lost := tr.changes(10)
	tr.lose(part, after(30*time.Second))
	require.False(t, tr.written(lost[0]))
	tr.beat(part, "a", protocol.StatusBusy)
	require.Empty(t, tr.changes(10))
	require.Empty(t, tr.wanting(after(29*time.Second)))
	require.Equal(t, []event.Partition{part}, tr.wanting(after(30*time.Second)))
	tr.load(part, 3, statuses{"a": Online}, after(30*time.Second))
	require.Equal(t, []Change{{Partition: part, Term: 3, Orchestrator: "a", Status: Busy}}, tr.changes(10))
	tr.end(part)
	require.Empty(t, tr.changes(10))
}

func TestWhoIsGoneIsRememberedWithinABound(t *testing.T) {
	t.Parallel()
	tr := loaded(nil)
	shown := make(statuses)
	for i := range 101 {
		o := event.TokenOf(string(rune('a'+i%26)) + string(rune('a'+i/26)))
		shown[o] = Online
		tr.connect(part, o)
	}
	storeAll(tr)
	for o := range shown {
		tr.disconnect(part, o, start)
	}
	require.Empty(t, tr.partitions[part].entries)
	require.Equal(t, []event.Partition{part}, tr.wanting(start), "it starts from the database again")
	tr.load(part, 2, shown, start)
	tr.tick(after(grace))
	for o := range shown {
		shown[o] = Gone
	}
	require.Equal(t, shown, storeAll(tr))
}

func TestPartitionsOfOthersAreNotWritten(t *testing.T) {
	t.Parallel()
	tr := loaded(nil)
	const other = part + 1
	tr.connect(other, "a")
	tr.beat(other, "a", protocol.StatusBusy)
	tr.disconnect(other, "a", start)
	tr.load(other, 1, statuses{"a": Busy}, start)
	tr.lose(other, start)
	require.False(t, tr.written(Change{Partition: other, Term: 1, Orchestrator: "a", Status: Busy}))
	tr.tick(after(grace))
	require.Empty(t, tr.changes(10))
}
