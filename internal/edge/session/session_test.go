package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

var (
	epoch = eventlog.NewEpoch(time.Unix(1, 0), 0)
	later = eventlog.NewEpoch(time.Unix(1, 0), 1)
)

// bench drives one session by hand: it keeps the time and sorts the effects.
type bench struct {
	*testing.T
	s    *session.Session
	now  time.Time
	sent []session.Send
	// The last of each kind that has not been looked at yet.
	begin      *session.Begin
	ask        *session.AskLast
	read       *session.Read
	subscribed *session.Subscribed
	dead       *session.DeadLetter
	filtered   []session.FilterReason
	refresh    bool
	saved      *session.Save
	hand       []uint64 // sequences that were written, see serve
	lossy      bool     // what is written does not come
	traced     []trace.Record
}

func config() session.Config {
	return session.Config{
		Orchestrator: "o", Daemon: "d", Partition: 3, WindowEvents: 4, WindowBytes: 1 << 20,
		AckTimeout: 30 * time.Second, SilentAfter: 45 * time.Second, MaxVainTries: 5, MaxEventBytes: 256 << 10, EventsPerOrchestrator: 1000,
	}
}

func newBench(t *testing.T, cfg session.Config) *bench {
	return &bench{T: t, s: session.New(cfg), now: time.Unix(1000, 0)}
}

// started returns a session whose cursor stood at entry.
func started(t *testing.T, cfg session.Config, entry cursor.Entry) *bench {
	b := newBench(t, cfg)
	b.start(entry)
	return b
}

// start subscribes, and has the start decided: the cursor stood at entry.
func (b *bench) start(entry cursor.Entry) {
	b.subscribe("*")
	b.after(50 * time.Millisecond)
	require.NotNil(b, b.begin)
	b.s.Started(b.begin.Run, epoch, entry, entry.Floor > 0, b.now)
	b.take()
	require.NotNil(b, b.ask)
}

// live returns a session that has considered all up to sequence 10.
func live(t *testing.T, cfg session.Config) *bench {
	b := started(t, cfg, cursor.Entry{Floor: 10})
	b.answerLast(eventlog.Last{Sequence: 8, UpTo: 10})
	require.True(t, b.s.Live())
	return b
}

func (b *bench) take() {
	for _, e := range b.s.Take() {
		switch e := e.(type) {
		case session.Begin:
			b.begin = &e
		case session.Save:
			b.saved = &e
		case session.AskLast:
			b.ask = &e
		case session.Read:
			b.read = &e
		case session.Subscribed:
			b.subscribed = &e
			require.Empty(b, b.sent, "subscribed comes before every event")
		case session.Send:
			b.sent = append(b.sent, e)
		case session.DeadLetter:
			b.dead = &e
		case session.Filtered:
			b.filtered = append(b.filtered, e.Why)
		case session.RefreshEpoch:
			b.refresh = true
		case session.Trace:
			b.traced = append(b.traced, e.Record)
		}
	}
}

func (b *bench) subscribe(pattern protocol.Pattern, channels ...string) {
	b.s.Subscribe([]protocol.Subscription{{Pattern: pattern, Channels: channels}}, b.now)
	b.take()
}

func (b *bench) after(d time.Duration) {
	b.now = b.now.Add(d)
	b.s.Tick(b.now)
	b.take()
}

func (b *bench) answerLast(last eventlog.Last) {
	require.NotNil(b, b.ask, "a question for the newest sequence")
	ask := *b.ask
	b.ask = nil
	b.s.LastKnown(ask.Run, last, b.now)
	b.take()
}

func (b *bench) answerRead(remaining uint64, messages ...eventlog.Message) {
	require.NotNil(b, b.read, "a read of the log")
	read := *b.read
	b.read = nil
	b.s.ReadDone(read.Run, eventlog.Page{Messages: messages, Remaining: remaining}, b.now)
	b.take()
}

func (b *bench) forward(after uint64, m eventlog.Message) {
	b.s.Forwarded(epoch, session.NewCandidate(m), after, b.now)
	b.take()
}

func (b *bench) write() {
	for _, s := range b.sent {
		b.s.Written(s.Run, s.Position.Sequence, b.now)
		if s.Ping && !b.lossy {
			b.s.Answered(s.Run, s.Position.Sequence, b.now)
		}
	}
	b.sent = nil
	b.take()
}

func (b *bench) ack(ids ...string) int {
	n := b.s.Ack(ids, b.now)
	b.take()
	return n
}

func (b *bench) inProgress(ids ...string) int {
	n := b.s.InProgress(ids, b.now)
	b.take()
	return n
}

func (b *bench) sequences() []uint64 {
	var out []uint64
	for _, s := range b.sent {
		out = append(out, s.Position.Sequence)
	}
	return out
}

// at is an event of orchestrator o that requires an ack; its id is "e<sequence>".
func at(sequence uint64, change ...func(*event.Event)) eventlog.Message {
	e := event.Event{ID: fmt.Sprintf("e%d", sequence), Type: "message.received", OrchestratorID: "o", RequiresAck: true, Payload: []byte(`{}`)}
	for _, c := range change {
		c(&e)
	}
	body, err := e.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return eventlog.Message{Token: "o", Sequence: sequence, Stored: time.Unix(900, 0), Body: body}
}

func noAck(e *event.Event) { e.RequiresAck = false }

func TestTheFirstOfASeriesOfSubscribesAsksForOneStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, config())
	b.after(time.Hour)
	require.Nil(t, b.begin, "nothing is decided before the first subscribe")
	b.subscribe("message.*")
	require.NotNil(t, b.begin)
	run := b.begin.Run
	b.begin = nil
	b.subscribe("vp.*")
	b.after(time.Second)
	require.Nil(t, b.begin, "the start is under way")
	require.Len(t, b.s.Subscriptions(), 2, "which it is decided by")

	b.s.StartFailed(run, b.now)
	b.after(time.Second)
	require.NotNil(t, b.begin, "a start that failed is tried again")
}

// What is subscribed while the start is under way may have come too late for it.
// Were the daemon told that it has taken effect, and its edge crashed then, whoever
// took it over would know nothing of it, and pass what it wants (invariant 1).
func TestADaemonIsToldOfASubscribeOnceTheRecordKnowsOfIt(t *testing.T) {
	t.Parallel()
	started := func(b *bench, wants ...protocol.Pattern) {
		entry := cursor.Entry{Floor: 10}
		for _, p := range wants {
			entry.Subscriptions = append(entry.Subscriptions, protocol.Subscription{Pattern: p})
		}
		begin := *b.begin
		b.begin = nil
		b.s.Started(begin.Run, epoch, entry, true, b.now)
		b.take()
	}
	for name, c := range map[string]struct {
		later  func(b *bench)
		starts int
	}{
		"it came in time":                  {func(b *bench) { b.subscribe("vp.*"); started(b, "message.*", "vp.*") }, 0},
		"it came too late":                 {func(b *bench) { b.subscribe("vp.*"); started(b, "message.*") }, 1},
		"it came before the log answered":  {func(b *bench) { started(b, "message.*"); b.subscribe("vp.*") }, 1},
		"it says nothing new":              {func(b *bench) { b.subscribe("message.received"); started(b, "message.*") }, 0},
		"it says nothing new, a bit later": {func(b *bench) { started(b, "message.*"); b.subscribe("message.received") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, config())
			b.subscribe("message.*")
			b.s.Hint(epoch, 20, b.now)
			c.later(b)
			require.Nil(t, b.subscribed)
			if c.starts > 0 {
				require.NotNil(t, b.begin, "the start is decided once more")
				require.False(t, b.s.Running())
				b.ask = nil
				started(b, "message.*", "vp.*")
			}
			require.Nil(t, b.begin)
			b.answerLast(eventlog.Last{UpTo: 15})
			require.NotNil(t, b.subscribed)
			require.False(t, b.s.Live(), "what was said before the first start is not forgotten")
		})
	}
}

// The entry that the first of two starts has written is no cursor that was found.
func TestAStartThatIsDecidedOnceMoreResumesNothing(t *testing.T) {
	t.Parallel()
	message := []protocol.Subscription{{Pattern: "message.*"}}
	for name, c := range map[string]struct{ first, second, want bool }{
		"nothing was found":         {false, true, false},
		"a cursor was found":        {true, true, true},
		"it was lost in the middle": {true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, config())
			b.subscribe("message.*")
			b.s.Started(b.begin.Run, epoch, cursor.Entry{Subscriptions: message}, c.first, b.now)
			b.subscribe("*")
			b.ask = nil
			b.s.Started(b.begin.Run, epoch, cursor.Entry{Subscriptions: b.s.Subscriptions()}, c.second, b.now)
			b.take()
			b.answerLast(eventlog.Last{UpTo: 15})
			require.Equal(t, c.want, b.subscribed.Resumed)
		})
	}
}

// A start that is decided once more is told what holds of the one before.
func TestSinceWhichStartADaemonHasWantedNoLess(t *testing.T) {
	t.Parallel()
	b := newBench(t, config())
	b.subscribe("message.*")
	require.Zero(t, b.s.Since())
	entry := cursor.Entry{Generation: 7, Subscriptions: b.s.Subscriptions()}
	b.subscribe("vp.*")
	b.s.Started(b.begin.Run, epoch, entry, true, b.now)
	require.False(t, b.s.Running())
	require.EqualValues(t, 7, b.s.Since())
	b.s.Unsubscribe([]protocol.Pattern{"message.*"}, b.now)
	b.subscribe("message.*")
	require.Zero(t, b.s.Since())
}

// Invariant 1: what a fresh token allows stands in the record as a subscribe does,
// also where the start was decided by what the one before allowed.
func TestMoreThanTheStartKnewOfIsAllowedMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t, config())
	b.subscribe("*")
	begin := *b.begin
	b.begin = nil
	b.s.Rescope(false)
	b.s.Started(begin.Run, epoch, cursor.Entry{Subscriptions: []protocol.Subscription{{Pattern: "message.*"}}}, true, b.now)
	b.take()
	require.NotNil(t, b.begin, "the start is decided once more")
	require.False(t, b.s.Running())
	b.s.Started(b.begin.Run, epoch, cursor.Entry{Subscriptions: b.s.Subscriptions()}, true, b.now)
	b.take()
	require.True(t, b.s.Running())
}

func TestAFreshTokenIsSavedAtOnce(t *testing.T) {
	t.Parallel()
	for name, less := range map[string]bool{"allows more": false, "allows less": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := live(t, config())
			b.saved = nil
			b.s.Rescope(less)
			b.take()
			require.Equal(t, &session.Save{Now: true}, b.saved)
			require.Equal(t, less, b.s.Progress(b.now).Narrowed)
		})
	}
}

// Invariant 1: between two subscribes of a series nothing is passed that the second
// one wants, however the event comes; and what is wanted already comes at once.
func TestWhatTheNextSubscribeOfASeriesMayWantIsNotPassed(t *testing.T) {
	t.Parallel()
	other := func(e *event.Event) { e.Type = "vp.mentioned" }
	for name, arrive := range map[string]func(b *bench){
		"forwarded": func(b *bench) {
			b.answerLast(eventlog.Last{UpTo: 10})
			b.forward(10, at(11))
			b.forward(11, at(12, other))
			b.forward(12, at(13))
		},
		"read": func(b *bench) {
			b.answerLast(eventlog.Last{Sequence: 13, UpTo: 13})
			b.answerRead(0, at(11), at(12, other), at(13))
		},
	} {
		for how, test := range map[string]struct {
			again func(b *bench)
			want  []uint64
		}{
			"which comes":         {func(b *bench) { b.subscribe("vp.*") }, []uint64{11, 12, 13}},
			"which does not come": {func(*bench) {}, []uint64{11, 13}},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, config())
				b.subscribe("message.*")
				b.s.Started(b.begin.Run, epoch, cursor.Entry{Floor: 10}, true, b.now)
				b.take()
				arrive(b)
				require.Equal(t, []uint64{11}, b.sequences())
				require.NotNil(t, b.subscribed)
				require.Nil(t, b.read, "the log is not asked again before there is an answer")
				require.EqualValues(t, 10, b.s.Progress(b.now).Entry.Floor)
				b.after(40 * time.Millisecond)
				test.again(b)
				require.LessOrEqual(t, b.s.Wake().Sub(b.now), 50*time.Millisecond)
				b.after(50 * time.Millisecond)
				b.answerRead(0, at(12, other), at(13))
				require.Equal(t, test.want, b.sequences())
			})
		}
	}
}

func TestStartIsPatientWhileTheSeriesMayNotBeComplete(t *testing.T) {
	t.Parallel()
	b := newBench(t, config())
	b.subscribe("message.*")
	b.after(50 * time.Millisecond)
	require.True(t, b.begin.Patient)
	b.s.StartFailed(b.begin.Run, b.now)
	b.begin = nil
	b.subscribe("vp.*")
	b.after(49 * time.Millisecond)
	require.Nil(t, b.begin)
	b.after(time.Millisecond)
	require.True(t, b.begin.Patient, "what was missing may have come: tried again at once")
	for b.begin.Patient {
		b.s.StartFailed(b.begin.Run, b.now)
		b.begin = nil
		b.after(b.s.Wake().Sub(b.now))
		require.NotNil(t, b.begin)
	}
	require.Less(t, b.now.Sub(time.Unix(1000, 0)), 5*time.Second, "patience ends")
}

func TestASeriesIsCompleteWhereNothingMoreCanBeWanted(t *testing.T) {
	t.Parallel()
	b := newBench(t, config())
	b.subscribe("*", "channel")
	require.True(t, b.begin.Patient, "other channels may follow")
	b.s.StartFailed(b.begin.Run, b.now)
	b.begin = nil
	b.subscribe("*")
	b.after(0)
	require.NotNil(t, b.begin)
	require.False(t, b.begin.Patient)
}

func TestASeriesOfSubscribesWithoutEndStillStarts(t *testing.T) {
	t.Parallel()
	b := newBench(t, config())
	for range 100 {
		b.subscribe("message.*")
		b.after(40 * time.Millisecond)
	}
	require.NotNil(t, b.begin)
}

func TestConnectionWithNothingNewIsLiveAfterOneQuestionAndNoRead(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{Floor: 10})
	b.answerLast(eventlog.Last{Sequence: 8, UpTo: 40})
	require.Nil(t, b.read)
	require.True(t, b.s.Live())
	require.Equal(t, uint64(40), b.s.Position().Sequence)
	require.Equal(t, &session.Subscribed{First: true, Position: b.s.Position(), Resumed: true}, b.subscribed)
}

func TestStoredEventsComeFirstInOrderThenLiveOnes(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{})
	b.answerLast(eventlog.Last{Sequence: 7, UpTo: 9})
	require.Equal(t, uint64(1), b.read.From)
	b.forward(7, at(12)) // arrives while the read is under way
	require.Empty(t, b.sent)
	b.answerRead(0, at(5), at(7))
	require.Equal(t, &session.Subscribed{First: true, Position: eventlog.Position{Partition: 3, Epoch: epoch}}, b.subscribed)
	require.Equal(t, []uint64{5, 7}, b.sequences())
	b.answerLast(eventlog.Last{Sequence: 12, UpTo: 12})
	b.answerRead(0, at(12))
	require.Equal(t, []uint64{5, 7, 12}, b.sequences())
	require.True(t, b.s.Live())
}

// Invariant 1: an event that came while the first question was under way is
// known to exist, and an answer from a replica that lags cannot hide it.
func TestEventForwardedBeforeTheStartIsNotForgotten(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{Floor: 10})
	b.forward(10, at(15))
	b.answerLast(eventlog.Last{Sequence: 8, UpTo: 12})
	require.False(t, b.s.Live())
	require.Nil(t, b.ask, "the lagging replica is not asked in a loop")
	b.after(time.Second)
	b.answerLast(eventlog.Last{Sequence: 15, UpTo: 15})
	b.answerRead(0, at(15))
	require.Equal(t, []uint64{15}, b.sequences())
}

// Invariant 1, without the net: between the login and the decided start routers
// speak already, and what they say is not said again.
func TestWhatRoutersSayBeforeTheStartIsATarget(t *testing.T) {
	t.Parallel()
	forwarded := func(b *bench) { b.forward(10, at(15)) }
	hinted := func(b *bench) {
		b.s.Hint(epoch, 15, b.now)
		b.take()
	}
	phases := map[string]func(b *bench, told func(*bench)){
		"before the first subscribe": func(b *bench, told func(*bench)) {
			told(b)
			b.subscribe("*")
			b.after(50 * time.Millisecond)
		},
		"while the next subscribe may come": func(b *bench, told func(*bench)) {
			b.subscribe("message.*")
			told(b)
			b.after(50 * time.Millisecond)
		},
		"while the start is decided": func(b *bench, told func(*bench)) {
			b.subscribe("*")
			b.after(50 * time.Millisecond)
			told(b)
		},
		"while the start waits to be tried again": func(b *bench, told func(*bench)) {
			b.subscribe("*")
			b.after(50 * time.Millisecond)
			b.s.StartFailed(b.begin.Run, b.now)
			told(b)
			b.after(time.Second)
		},
	}
	for name, reach := range phases {
		for how, told := range map[string]func(*bench){"forwarded": forwarded, "hinted": hinted} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, config())
				reach(b, told)
				require.NotNil(t, b.begin)
				b.s.Started(b.begin.Run, epoch, cursor.Entry{Floor: 10}, true, b.now)
				b.take()
				b.answerLast(eventlog.Last{Sequence: 8, UpTo: 12})
				require.False(t, b.s.Live(), "a replica that lags cannot hide it")
				b.after(time.Second)
				b.answerLast(eventlog.Last{Sequence: 15, UpTo: 15})
				b.answerRead(0, at(15))
				require.Equal(t, []uint64{15}, b.sequences())
			})
		}
	}
}

func TestWhatRoutersSaidOfAnotherEpochMeansNothingInThisOne(t *testing.T) {
	t.Parallel()
	running := func(t *testing.T, said eventlog.Epoch) *bench {
		b := newBench(t, config())
		b.s.Hint(said, 15, b.now)
		b.subscribe("*")
		b.after(50 * time.Millisecond)
		b.s.Started(b.begin.Run, later, cursor.Entry{Floor: 10}, true, b.now)
		b.take()
		b.answerLast(eventlog.Last{Sequence: 8, UpTo: 12})
		require.True(t, b.s.Live())
		return b
	}
	require.False(t, running(t, epoch).refresh, "the router is late")

	latest := eventlog.NewEpoch(time.Unix(1, 0), 2)
	b := running(t, latest)
	require.True(t, b.refresh, "this edge is late")
	b.s.EpochChanged(latest, b.now)
	b.take()
	b.answerLast(eventlog.Last{UpTo: 12})
	require.False(t, b.s.Live(), "a target where it belongs")
}

// The first word of a new epoch may be the only one: it holds the event that
// the first question in that epoch may be asked too early for.
func TestWhatARunningSessionHearsOfALaterEpochIsATargetThere(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.s.Forwarded(later, session.NewCandidate(at(3)), 2, b.now)
	b.s.EpochChanged(later, b.now)
	b.take()
	b.answerLast(eventlog.Last{UpTo: 2})
	require.False(t, b.s.Live())
}

// Invariant 1: what the daemon has passed over while it wanted less is reported once, in
// the epoch in which it was passed. A report that is dropped with its epoch hides nothing.
func TestWhatWasPassedWhileTheDaemonWantedLessIsLookedAtAgainInTheNextEpoch(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.after(time.Second)
	b.s.Unsubscribe([]protocol.Pattern{"*"}, b.now)
	b.take()
	b.forward(10, at(11))
	require.Equal(t, []session.FilterReason{session.FilteredSubscription}, b.filtered)
	b.subscribe("*")
	report := b.s.Progress(b.now)
	require.True(t, report.Narrowed)
	require.Equal(t, uint64(11), report.Entry.Floor)

	b.s.EpochChanged(later, b.now)
	b.take()
	b.answerLast(eventlog.Last{Sequence: 11, UpTo: 11})
	b.answerRead(0, at(11))
	require.Equal(t, []uint64{11}, b.sequences())
	report = report.Then(b.s.Progress(b.now))
	require.Equal(t, later, report.Epoch)
	require.Equal(t, uint64(10), report.Entry.Floor)
}

// Invariant 1: whichever replica answers may not have yet what was hinted at. It is not
// passed over, and does not wait for the net.
func TestWhatAReplicaDoesNotHaveYetIsReadSoonAfterItHas(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.s.Hint(epoch, 15, b.now)
	b.take()
	require.Equal(t, uint64(11), b.read.From)
	b.answerRead(0)
	for range 10 {
		require.False(t, b.s.Live())
		require.Nil(t, b.ask, "a replica that lags is not asked in a loop")
		wait := b.s.Wake().Sub(b.now)
		require.Positive(t, wait)
		require.LessOrEqual(t, wait, 5*time.Second)
		b.after(wait)
		b.answerLast(eventlog.Last{Sequence: 8, UpTo: 12})
	}
	b.after(b.s.Wake().Sub(b.now))
	b.answerLast(eventlog.Last{Sequence: 15, UpTo: 15})
	require.Equal(t, uint64(13), b.read.From)
	b.answerRead(0, at(15))
	require.Equal(t, []uint64{15}, b.sequences())
	require.True(t, b.s.Live())
}

func TestForwardedEventIsBelievedOnlyWithoutAGap(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		after, sequence uint64
		sent            []uint64
		reads           bool
	}{
		{"seen before", 4, 10, nil, false},
		{"nothing between", 10, 14, []uint64{14}, false},
		{"router knows less, but enough", 9, 14, []uint64{14}, false},
		{"something may be between", 11, 14, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := live(t, config())
			b.forward(tt.after, at(tt.sequence))
			require.Equal(t, tt.sent, b.sequences())
			require.Equal(t, tt.reads, b.read != nil)
		})
	}
}

func TestGapIsFilledInOrder(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.forward(12, at(14))
	require.Equal(t, session.CauseGap, b.read.Cause)
	b.answerRead(0, at(12), at(14))
	require.Equal(t, []uint64{12, 14}, b.sequences())
	require.True(t, b.s.Live())
}

func TestCatchUpEndsWhenTheMissingEventHasExpired(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.s.Hint(epoch, 20, b.now)
	b.take()
	require.Equal(t, session.CauseHint, b.read.Cause)
	b.answerRead(0)
	b.after(time.Second)
	b.answerLast(eventlog.Last{Sequence: 0, UpTo: 30})
	require.True(t, b.s.Live())
	require.Equal(t, uint64(30), b.s.Position().Sequence)
}

func TestTheNetFindsWhatNobodySaid(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.s.Check(b.now)
	b.take()
	b.answerLast(eventlog.Last{Sequence: 33, UpTo: 40})
	require.Equal(t, session.CauseNet, b.read.Cause)
	b.answerRead(0, at(33))
	require.Equal(t, []uint64{33}, b.sequences())
}

// Invariant 4. Checked by letting hasRoom return true: the fifth is sent.
func TestWindowBoundsWhatIsUnsettled(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	for q := uint64(11); q <= 15; q++ {
		b.forward(q-1, at(q))
	}
	require.Equal(t, []uint64{11, 12, 13, 14}, b.sequences())
	require.Nil(t, b.read, "a full window does not read")
	b.write()

	require.Equal(t, 1, b.ack("e12"))
	require.Nil(t, b.read, "one free place is not worth a read at once")
	b.after(50 * time.Millisecond)
	require.Equal(t, session.CauseWindow, b.read.Cause)
	require.Equal(t, 1, b.read.MaxEvents)
	b.answerRead(0, at(15))
	require.Equal(t, []uint64{15}, b.sequences())
	require.True(t, b.s.Live())
}

func TestWindowBoundsBytesButLetsOneEventPass(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.WindowBytes = 100
	b := live(t, cfg)
	b.forward(10, at(11))
	require.Len(t, b.sent, 1, "an event larger than the window passes alone")
	b.forward(11, at(12))
	require.Len(t, b.sent, 1)
	b.write()
	b.ack("e11")
	b.answerRead(0, at(12))
	require.Equal(t, []uint64{12}, b.sequences())
}

// Invariant 3. Checked by letting Floor return complete: the floor is 13.
func TestCursorNeverPassesAnUnsettledEvent(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.forward(10, at(11))
	b.forward(11, at(12))
	b.forward(12, at(13, noAck))
	require.Equal(t, uint64(10), b.s.Floor())
	b.write()
	b.ack("e12")
	entry := b.s.Progress(b.now).Entry
	require.Equal(t, uint64(10), entry.Floor)
	require.Equal(t, []cursor.Range{{First: 12, Last: 13}}, entry.Settled)
	require.Equal(t, cursor.Sends{Sequence: 11}, entry.Sends)
	require.Equal(t, uint64(13), entry.Sent)
	b.ack("e11")
	require.Equal(t, uint64(13), b.s.Floor())
	require.Empty(t, b.s.Progress(b.now).Entry.Settled)
}

func TestEventWithoutAckIsSettledWhenWrittenNotWhenQueued(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.forward(10, at(11, noAck))
	require.Equal(t, uint64(10), b.s.Floor())
	b.write()
	require.Equal(t, uint64(11), b.s.Floor())
}

func TestSettledRangesOfTheCursorAreNotSentAgainAndTheRestIsMarked(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{Floor: 10, Settled: []cursor.Range{{First: 12, Last: 13}}, Sent: 14})
	b.answerLast(eventlog.Last{Sequence: 15, UpTo: 15})
	require.Equal(t, []cursor.Range{{First: 12, Last: 13}}, b.s.Progress(b.now).Entry.Settled, "kept while they have not been met again")
	b.answerRead(0, at(11), at(12), at(13), at(14), at(15))
	require.Equal(t, []uint64{11, 14, 15}, b.sequences())
	require.Equal(t, []bool{true, true, false}, []bool{b.sent[0].Redelivered, b.sent[1].Redelivered, b.sent[2].Redelivered})
}

func TestEventsForOthersAreSettledUnsent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*event.Event)
		want   session.FilterReason
	}{
		{"addressed to another daemon", func(e *event.Event) { e.DaemonID = "x" }, session.FilteredAddressee},
		{"addressed to this daemon", func(e *event.Event) { e.DaemonID = "d" }, ""},
		{"addressed to one it answers for", func(e *event.Event) { e.DaemonID = "old" }, ""},
		{"type not subscribed", func(e *event.Event) { e.Type = "vp.mentioned" }, session.FilteredSubscription},
		{"channel not subscribed", func(e *event.Event) { e.ChannelID = "c2" }, session.FilteredSubscription},
		{"channel subscribed", func(e *event.Event) { e.ChannelID = "c1" }, ""},
		{"stored under a foreign subject", func(e *event.Event) { e.OrchestratorID = "other" }, session.FilteredInvalid},
		{"invalid", func(e *event.Event) { e.Type = "nonsense" }, session.FilteredInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, config())
			b.subscribe("message.*", "c1")
			b.after(50 * time.Millisecond)
			b.s.Started(b.begin.Run, epoch, cursor.Entry{Floor: 10, AnswersFor: []protocol.DaemonID{"old"}}, true, b.now)
			b.take()
			b.answerLast(eventlog.Last{UpTo: 10})
			b.forward(10, at(11, tt.change))
			if tt.want == "" {
				require.Len(t, b.sent, 1)
				return
			}
			require.Empty(t, b.sent)
			require.Equal(t, []session.FilterReason{tt.want}, b.filtered)
			require.Equal(t, uint64(11), b.s.Floor())
		})
	}
}

func TestAckClockRunsOnlyForTheOldestAndRestartsAtEveryAck(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.forward(10, at(11))
	b.forward(11, at(12))
	b.write()
	b.after(29 * time.Second)
	b.ack("e12")
	b.after(29 * time.Second)
	require.Empty(t, b.sent)
	b.after(time.Second)
	require.Equal(t, []uint64{11}, b.sequences())
	require.True(t, b.sent[0].Redelivered)
	b.after(time.Hour)
	require.Len(t, b.sent, 1, "a repeat that is not written yet is not repeated")
}

func TestEventIsDeadLetteredAfterTheLastTryAndPassedOnlyOnceStored(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.forward(10, at(11))
	for range 5 {
		require.Len(t, b.sent, 1)
		b.write()
		b.after(30 * time.Second)
	}
	require.Empty(t, b.sent)
	require.Equal(t, uint64(11), b.dead.Sequence)
	require.Equal(t, 5, b.dead.Tries)
	require.Equal(t, at(11).Body, b.dead.Body)

	b.s.DeadLettered(b.dead.Run, 11, false, b.now)
	b.dead = nil
	require.Equal(t, uint64(10), b.s.Floor(), "invariant 3: not stored, not passed")
	b.after(5 * time.Second)
	require.NotNil(t, b.dead, "tried again")
	b.s.DeadLettered(b.dead.Run, 11, true, b.now)
	require.Equal(t, uint64(11), b.s.Floor())
}

func TestVainTriesOfTheOldestAreCountedOverReconnects(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{Floor: 10, Sends: vain(11, 4), Sent: 11})
	require.Equal(t, 4, b.s.Progress(b.now).Entry.Sends.Count)
	b.answerLast(eventlog.Last{Sequence: 11, UpTo: 11})
	b.answerRead(0, at(11))
	require.True(t, b.sent[0].Redelivered)
	b.write()
	require.Equal(t, vain(11, 4), b.s.Progress(b.now).Entry.Sends)
	require.Equal(t, vain(11, 5), b.breaks().Sends)

	b = started(t, config(), b.s.Progress(b.now).Entry)
	b.answerLast(eventlog.Last{Sequence: 11, UpTo: 11})
	b.answerRead(0, at(11))
	require.Empty(t, b.sent, "an event that crashes its daemon is not sent a sixth time")
	require.NotNil(t, b.dead)
}

// A daemon that comes back goes on with what it has in hand, and may be done
// with it before its new connection has got to that.
func TestAnEarlyAckSettlesItsEventUnsent(t *testing.T) {
	t.Parallel()
	moments := map[string]func(b *bench, ack func()){
		"before the first subscribe": func(b *bench, ack func()) {
			ack()
			b.start(cursor.Entry{Floor: 10, Sent: 12})
			b.answerLast(eventlog.Last{Sequence: 12, UpTo: 12})
		},
		"before the start is decided": func(b *bench, ack func()) {
			b.subscribe("*")
			ack()
			b.start(cursor.Entry{Floor: 10, Sent: 12})
			b.answerLast(eventlog.Last{Sequence: 12, UpTo: 12})
		},
		"before the first answer of the log": func(b *bench, ack func()) {
			b.start(cursor.Entry{Floor: 10, Sent: 12})
			ack()
			b.answerLast(eventlog.Last{Sequence: 12, UpTo: 12})
		},
		"while the log is read": func(b *bench, ack func()) {
			b.start(cursor.Entry{Floor: 10, Sent: 12})
			b.answerLast(eventlog.Last{Sequence: 12, UpTo: 12})
			ack()
		},
	}
	for name, reach := range moments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, config())
			reach(b, func() { require.Zero(t, b.ack("e11", "e13")) })
			b.answerRead(0, at(11), at(12))
			require.Equal(t, []uint64{12}, b.sequences())
			require.Equal(t, []session.FilterReason{session.FilteredAcknowledged}, b.filtered)
			require.Equal(t, uint64(11), b.s.Floor())
			b.forward(12, at(13))
			require.Equal(t, []uint64{12, 13}, b.sequences(), "nothing is in hand that was never sent")
		})
	}
}

// Between a lagging replica's newest event and the last one that was sent there
// is more that the daemon may have in hand.
func TestEarlyAcksAreKeptUntilAllIsConsideredThatWasSentBefore(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{Floor: 10, Sent: 12})
	b.ack("e12")
	b.answerLast(eventlog.Last{UpTo: 11})
	require.True(t, b.s.Live())
	b.forward(10, at(12))
	require.Empty(t, b.sent)
	require.Equal(t, uint64(12), b.s.Floor())
}

func TestAnEarlyAckSettlesOnlyWhatIsForThisDaemon(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{Floor: 10, Sent: 12})
	b.ack("e11")
	b.answerLast(eventlog.Last{Sequence: 11, UpTo: 11})
	b.answerRead(0, at(11, func(e *event.Event) { e.DaemonID = "x" }))
	require.Equal(t, []session.FilterReason{session.FilteredAddressee}, b.filtered)
}

// Invariant 4: what is forgotten costs a repeat.
func TestEarlyAcksAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, config())
	b.ack("e11", "e12")
	for i := range 999 {
		b.ack(fmt.Sprintf("other-%d", i))
	}
	b.start(cursor.Entry{Floor: 10, Sent: 12})
	b.answerLast(eventlog.Last{Sequence: 12, UpTo: 12})
	b.answerRead(0, at(11), at(12))
	require.Equal(t, []uint64{11}, b.sequences())
}

func TestAcksGivenBeforeALogWasRolledBackCountAfterwards(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{Floor: 10, Sent: 12})
	b.ack("e12")
	b.s.EpochChanged(later, b.now)
	b.take()
	b.answerLast(eventlog.Last{Sequence: 5, UpTo: 5})
	b.answerRead(0, at(5, func(e *event.Event) { e.ID = "e12" }))
	require.Empty(t, b.sent)
}

func TestUnsubscribeSettlesWhatNoLongerMatches(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.forward(10, at(11))
	b.s.Unsubscribe([]protocol.Pattern{"*"}, b.now)
	require.Equal(t, uint64(11), b.s.Floor())
	b.subscribe("*")
	b.forward(11, at(12))
	require.Equal(t, []uint64{11, 12}, b.sequences())
}

// Invariant 1: what names another daemon, and was to be sent to this one in its
// place, waits for that one if this one does not take it.
func TestWhatNamesAnotherIsNotedWhereItIsDeclined(t *testing.T) {
	t.Parallel()
	for name, decline := range map[string]func(b *bench){
		"unsubscribed":              func(b *bench) { b.s.Unsubscribe([]protocol.Pattern{"*"}, b.now) },
		"withheld":                  func(b *bench) { b.s.Withhold(b.sent[0].Run, 11, b.now) },
		"not answered for any more": func(b *bench) { b.s.AnswersFor(nil, b.now) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := started(t, config(), cursor.Entry{Floor: 10, AnswersFor: []protocol.DaemonID{"old"}})
			b.answerLast(eventlog.Last{UpTo: 10})
			b.forward(10, at(11, func(e *event.Event) { e.DaemonID = "old" }))
			require.Equal(t, []uint64{11}, b.sequences())
			decline(b)
			require.Equal(t, uint64(11), b.s.Floor())
			require.Equal(t, map[protocol.DaemonID]uint64{"old": 11}, b.s.Progress(b.now).Passed)
		})
	}
}

func TestAnEpochThatIsOverDoesNotComeBack(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.s.EpochChanged(later, b.now)
	b.s.EpochChanged(epoch, b.now)
	require.Equal(t, later, b.s.Epoch())
}

func TestNewEpochStartsFromTheOldestAndDropsAnswersOfTheOld(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.forward(12, at(14)) // a read of the old epoch is under way
	b.s.Forwarded(later, session.NewCandidate(at(3)), 2, b.now)
	b.take()
	require.True(t, b.refresh, "a foreign epoch is looked up, not believed")
	b.s.EpochChanged(later, b.now)
	b.take()
	b.answerRead(0, at(12), at(14))
	require.Empty(t, b.sent)
	b.answerLast(eventlog.Last{Sequence: 3, UpTo: 3})
	require.Equal(t, uint64(1), b.read.From)
	b.answerRead(0, at(3))
	require.Equal(t, []uint64{3}, b.sequences())
	require.Equal(t, later, b.s.Epoch())
}

func TestTruncatedIsSaidWhenTheStoreIsFullAboveTheCursor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		remaining uint64
		want      bool
	}{{998, false}, {999, true}} {
		b := started(t, config(), cursor.Entry{Floor: 10})
		b.answerLast(eventlog.Last{Sequence: 5000, UpTo: 5000})
		b.answerRead(tt.remaining, at(11))
		require.Equal(t, tt.want, b.subscribed.Truncated)
	}
}

func TestAnIdleSessionNeedsNoTick(t *testing.T) {
	t.Parallel()
	require.Zero(t, live(t, config()).s.Wake())
}

func TestFailedAnswersAreAskedAgainWithGrowingDelay(t *testing.T) {
	t.Parallel()
	b := started(t, config(), cursor.Entry{})
	delay := time.Duration(0)
	for range 8 {
		b.s.AskFailed(b.ask.Run, b.now)
		b.ask = nil
		b.take()
		wait := b.s.Wake().Sub(b.now)
		require.GreaterOrEqual(t, wait, delay)
		require.LessOrEqual(t, wait, 5*time.Second)
		delay = wait
		b.after(wait)
		require.NotNil(t, b.ask)
	}
	b.answerLast(eventlog.Last{Sequence: 4, UpTo: 9})
	b.s.ReadFailed(b.read.Run, b.now)
	b.read = nil
	b.after(b.s.Wake().Sub(b.now))
	require.NotNil(t, b.read)
}

// An edge that crashes must not leave an entry behind that wants less than its
// daemon has said: whoever wants no more than that may take it over, and pass what
// only the daemon wants (invariant 1).
func TestThatADaemonWantsMoreIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.saved = nil
	b.subscribe("b.*")
	require.NotNil(t, b.saved)
	require.True(t, b.saved.Now)
}

// Invariant 1: what a daemon is told that it has subscribed to is passed by nobody, so
// where it asks it is told when the record says so, however late. Nothing else waits.
func TestADaemonIsToldOfALaterSubscribeOnceTheRecordKnowsOfIt(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(b *bench){
		"a subscribe":                 func(b *bench) { b.subscribe("vp.*") },
		"one that says nothing new":   func(b *bench) { b.subscribe("message.received") },
		"several":                     func(b *bench) { b.subscribe("vp.*"); b.s.Confirm(); b.subscribe("channel.*") },
		"one while a log rolled back": func(b *bench) { b.subscribe("vp.*"); b.s.EpochChanged(later, b.now) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, config())
			b.subscribe("message.*")
			b.s.Confirm()
			b.s.Started(b.begin.Run, epoch, cursor.Entry{Floor: 10}, true, b.now)
			b.take()
			b.answerLast(eventlog.Last{UpTo: 10})
			require.True(t, b.subscribed.First)
			b.after(time.Minute)
			require.False(t, b.s.Progress(b.now).Awaited)
			b.subscribed, b.saved = nil, nil

			later(b)
			b.s.Confirm()
			b.take()
			require.Nil(t, b.subscribed)
			require.Equal(t, &session.Save{Now: true}, b.saved)
			require.True(t, b.s.Progress(b.now).Awaited)
			if b.s.Epoch() == epoch {
				b.forward(10, at(11))
				b.write()
				require.Equal(t, 1, b.ack("e11"))
			}
			require.True(t, b.s.Progress(b.now).Awaited, "until it is known to be stored")
			require.Nil(t, b.subscribed)

			b.s.Recorded()
			b.s.Recorded()
			b.take()
			require.Equal(t, &session.Subscribed{Position: b.s.Position(), Resumed: true}, b.subscribed)
			require.False(t, b.s.Progress(b.now).Awaited)
		})
	}
}

func TestALaterSubscribeIsNotAnsweredUnasked(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.subscribed = nil
	b.subscribe("vp.*")
	b.s.Recorded()
	b.take()
	require.Nil(t, b.subscribed)
}

// What it has passed over meanwhile those may want that it speaks for (invariant 1).
func TestThatADaemonHasWantedLessForAWhileIsReported(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	require.False(t, b.s.Progress(b.now).Narrowed)
	b.s.Unsubscribe([]protocol.Pattern{"b.*"}, b.now)
	require.False(t, b.s.Progress(b.now).Narrowed, "it had not subscribed to that")
	b.s.Unsubscribe([]protocol.Pattern{"*"}, b.now)
	b.subscribe("*")
	require.True(t, b.s.Progress(b.now).Narrowed)
	require.False(t, b.s.Progress(b.now).Narrowed, "once")
}

func TestWhatOnlyCostsRepeatsIsWrittenWithMore(t *testing.T) {
	t.Parallel()
	b := live(t, config())
	b.saved = nil
	b.s.Unsubscribe([]protocol.Pattern{"b.*"}, b.now)
	b.take()
	require.Equal(t, &session.Save{}, b.saved)
}
