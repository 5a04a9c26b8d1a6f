package session_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/eventlog"
)

// patient is config with a window of production's size.
func patient(change ...func(*session.Config)) session.Config {
	cfg := config()
	cfg.WindowEvents = 100
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

func tries(n int) func(*session.Config) {
	return func(cfg *session.Config) { cfg.MaxVainTries = n }
}

// vain is that the event at the sequence was tried so often.
func vain(sequence uint64, count int) cursor.Sends {
	return cursor.Sends{Sequence: sequence, Stored: at(sequence).Stored.UnixNano(), Count: count}
}

// shelf is the log of a test: what it holds from sequence 11 on.
type shelf []eventlog.Message

func shelfOf(n int) (s shelf) {
	for i := range n {
		s = append(s, at(uint64(11+i)))
	}
	return s
}

// attach is a new connection of the daemon whose cursor stands at entry, and to
// which all is sent that it may be sent at once.
func (s shelf) attach(t *testing.T, cfg session.Config, entry cursor.Entry) *bench {
	t.Helper()
	b := started(t, cfg, entry)
	s.serve(b)
	return b
}

// serve answers all that the session asks of the log, and writes what it sends.
func (s shelf) serve(b *bench) {
	for b.ask != nil || b.read != nil || len(b.sent) > 0 {
		if b.ask != nil {
			last := s[len(s)-1].Sequence
			b.answerLast(eventlog.Last{Sequence: last, UpTo: last})
		}
		if b.read != nil {
			i := slices.IndexFunc(s, func(m eventlog.Message) bool { return m.Sequence >= b.read.From })
			n := min(len(s)-i, b.read.MaxEvents)
			b.answerRead(uint64(len(s)-i-n), s[i:i+n]...)
		}
		for _, sent := range b.sent {
			b.hand = append(b.hand, sent.Position.Sequence)
		}
		b.write()
	}
}

// lives lets time pass on a connection whose daemon says something now and then.
func (b *bench) lives(d time.Duration) {
	for ; d > 0; d -= 10 * time.Second {
		b.s.Heard(b.now)
		b.after(min(d, 10*time.Second))
	}
}

// breaks ends the connection without a word, and returns what is saved then.
func (b *bench) breaks() cursor.Entry {
	b.s.Broke()
	return b.s.Progress(b.now).Entry
}

// buried has the dead letter stored that the session asks for, if it does.
func (b *bench) buried() (sequence uint64) {
	if b.dead == nil {
		return 0
	}
	sequence = b.dead.Sequence
	b.s.DeadLettered(b.dead.Run, sequence, true, b.now)
	b.dead = nil
	b.take()
	return sequence
}

// A daemon that was sent from edge to edge, as in a rolling restart, lost the
// event that it was working on to the dead letters.
func TestGracefulEndsAreNotHeldAgainstAnEvent(t *testing.T) {
	t.Parallel()
	log, entry := shelfOf(3), cursor.Entry{Floor: 10}
	for range 20 {
		b := log.attach(t, patient(), entry)
		require.Equal(t, []uint64{11, 12, 13}, b.hand)
		entry = b.s.Progress(b.now).Entry
		require.Equal(t, cursor.Sends{Sequence: 11}, entry.Sends)
	}
}

func TestABrokenConnectionIsHeldAgainstWhatWasInHand(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before func(b *bench)
		want   cursor.Sends
	}{
		"the oldest of what was written": {func(*bench) {}, vain(11, 1)},
		"what was not acknowledged":      {func(b *bench) { b.ack("e11") }, vain(12, 1)},
		"nothing after the last ack":     {func(b *bench) { b.ack("e11", "e12", "e13") }, cursor.Sends{}},
		"beside what timed out":          {func(b *bench) { b.lives(30 * time.Second); b.write() }, vain(11, 2)},
		"not twice, where the repeat was not written": {
			func(b *bench) { b.lives(30 * time.Second) }, vain(11, 1),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := shelfOf(3).attach(t, patient(), cursor.Entry{Floor: 10})
			tt.before(b)
			require.Equal(t, tt.want, b.breaks().Sends)
		})
	}
	b := live(t, config())
	b.forward(10, at(11))
	require.Equal(t, cursor.Sends{Sequence: 11}, b.breaks().Sends, "what did not reach the socket was not tried")
	b = live(t, config())
	b.forward(10, at(11, noAck))
	b.write()
	require.Zero(t, b.breaks().Sends)
}

// Work of more than two and a half minutes was given up while the daemon was at it.
func TestWorkInProgressIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := shelfOf(2).attach(t, patient(), cursor.Entry{Floor: 10})
	for range 20 {
		b.lives(29 * time.Second)
		require.Equal(t, 1, b.inProgress("e11"))
	}
	require.Equal(t, []uint64{11, 12}, b.hand)
	require.Empty(t, b.sent)
	require.Equal(t, cursor.Sends{Sequence: 11}, b.s.Progress(b.now).Entry.Sends)
	b.ack("e11")
	b.lives(30 * time.Second)
	require.Empty(t, b.sent, "the next one has what is left of its time")
	b.lives(30 * time.Second)
	require.Equal(t, []uint64{12}, b.sequences())
}

// A daemon sends a heartbeat each interval, which is no shorter than the ack
// timeout: a heartbeat that comes a moment late must not cost a try.
func TestWorkInProgressIsWaitedForFromHeartbeatToHeartbeat(t *testing.T) {
	t.Parallel()
	b := shelfOf(1).attach(t, patient(), cursor.Entry{Floor: 10})
	b.after(20 * time.Second)
	for range 10 {
		b.s.Heard(b.now)
		b.inProgress("e11")
		b.after(31 * time.Second)
	}
	require.Empty(t, b.sent)
	b.s.Heard(b.now)
	b.after(14 * time.Second)
	require.Equal(t, []uint64{11}, b.sequences())
}

// A daemon that works through what it has in hand in another order is not
// punished for it.
func TestAnyWorkInProgressShowsThatTheDaemonIsAtIt(t *testing.T) {
	t.Parallel()
	b := shelfOf(3).attach(t, patient(), cursor.Entry{Floor: 10})
	for range 20 {
		b.lives(29 * time.Second)
		require.Zero(t, b.inProgress("unknown"))
		require.Equal(t, 1, b.inProgress("e13", "unknown"))
	}
	require.Empty(t, b.sent)
	b.inProgress()
	b.inProgress("e14")
	b.lives(45 * time.Second)
	require.Equal(t, []uint64{11}, b.sequences(), "nothing of what it has")
}

// Each ack of another event, and each other that was in progress, restarted the clock of
// one that its daemon had failed at: it did not come again for as long as there was
// traffic.
func TestAnEventThatWasLeftBehindComesAgainWhileTheDaemonIsAtOthers(t *testing.T) {
	t.Parallel()
	signs := map[string]func(b *bench, id string){
		"acks":        func(b *bench, id string) { require.Equal(t, 1, b.ack(id)) },
		"in progress": func(b *bench, id string) { require.Equal(t, 1, b.inProgress(id)); b.ack(id) },
	}
	for name, sign := range signs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := live(t, patient())
			b.forward(10, at(11))
			b.write()
			began := b.now
			for next := uint64(12); len(b.sent) == 0 && next < 1000; next++ {
				b.forward(next-1, at(next))
				b.write()
				b.lives(29 * time.Second)
				sign(b, fmt.Sprintf("e%d", next))
			}
			require.Equal(t, []uint64{11}, b.sequences())
			require.True(t, b.sent[0].Redelivered)
			require.InDelta(t, 100*30, b.now.Sub(began).Seconds(), 30, "not before a whole window may be done")
			require.Equal(t, cursor.Sends{Sequence: 11}, b.s.Progress(b.now).Entry.Sends, "no try was in vain")
			b.write()
			b.lives(45 * time.Second)
			require.Equal(t, []uint64{11}, b.sequences(), "without a sign of the daemon's it comes after the ack timeout")
			require.Equal(t, vain(11, 1), b.s.Progress(b.now).Entry.Sends)
		})
	}
}

// A daemon that could do nothing for a minute, and had its window full by then, got one
// of these in an ack timeout: nothing newer came to it for 50 minutes.
func TestWhatWasLeftBehindTogetherComesAgainTogether(t *testing.T) {
	t.Parallel()
	b := shelfOf(6).attach(t, patient(), cursor.Entry{Floor: 10})
	b.lives(20 * time.Second)
	b.forward(16, at(17))
	b.write()
	b.lives(10 * time.Second)
	require.Equal(t, []uint64{11}, b.sequences())
	b.write()
	b.lives(10 * time.Second)
	b.ack("e11")
	b.after(time.Millisecond)
	require.Equal(t, []uint64{12}, b.sequences(), "it has been in hand for as long")
	require.True(t, b.sent[0].Redelivered)
	b.write()
	b.ack("e12", "e13", "e14")
	require.Empty(t, b.sent, "more acks may be on their way")
	b.ack("e15")
	b.after(time.Millisecond)
	require.Equal(t, []uint64{16}, b.sequences(), "what is acknowledged meanwhile does not")
	require.Equal(t, cursor.Sends{Sequence: 16}, b.s.Progress(b.now).Entry.Sends, "no try was in vain")
	b.write()
	b.ack("e16")
	b.after(time.Millisecond)
	b.lives(20 * time.Second)
	require.Empty(t, b.sent, "it came later, and has its time")
	b.lives(10 * time.Second)
	require.Equal(t, []uint64{17}, b.sequences())
	require.Equal(t, vain(17, 1), b.s.Progress(b.now).Entry.Sends)
}

// A daemon that works on one event after the other has its window in hand for longer than
// the ack timeout. Where one took it that long once, each further one was sent again, for
// as long as there were some: a daemon that handles repeats did everything twice, and what
// it took half a minute for ended in the dead letters, though each was handled at once.
func TestASlowDaemonIsNotSentEverythingTwice(t *testing.T) {
	t.Parallel()
	for _, pace := range []time.Duration{10 * time.Second, 28 * time.Second} {
		t.Run(pace.String(), func(t *testing.T) {
			t.Parallel()
			const events = 60
			log := shelfOf(events)
			b := log.attach(t, config(), cursor.Entry{Floor: 10})
			b.lives(35 * time.Second)
			log.serve(b)
			require.Equal(t, []uint64{11, 12, 13, 14, 11}, b.hand)
			handled := 0
			for ; len(b.hand) > 0; handled++ {
				b.ack(fmt.Sprintf("e%d", b.hand[0]))
				b.hand = b.hand[1:]
				for range pace / time.Second { // with the next one
					log.serve(b)
					b.lives(time.Second)
				}
				log.serve(b)
				require.Nil(t, b.dead)
			}
			require.GreaterOrEqual(t, handled, events)
			require.LessOrEqual(t, handled, events+config().WindowEvents, "what was in hand when the first one was late")
		})
	}
}

// An ack of a repeat shows that the daemon is at work, each once: it is no word that
// keeps for ever what the daemon has failed at.
func TestAnAckOfARepeatIsASignOfLifeOnce(t *testing.T) {
	t.Parallel()
	b := shelfOf(2).attach(t, config(), cursor.Entry{Floor: 10})
	b.lives(30 * time.Second)
	require.Equal(t, []uint64{11}, b.sequences())
	b.write()
	b.lives(10 * time.Second)
	require.Equal(t, 1, b.ack("e11"))
	require.Zero(t, b.ack("e11"))
	b.after(time.Millisecond)
	require.Empty(t, b.sent, "it has handled both, and 12 is behind them")
	b.lives(20 * time.Second)
	require.Zero(t, b.ack("e11", "e10"), "there was one repeat")
	b.lives(10 * time.Second)
	require.Equal(t, []uint64{12}, b.sequences())
}

// A daemon that says, before it is sent an event again, that it is still at it,
// has survived the connection that broke.
func TestWhoIsStillAtItHasNotBeenCrashedByIt(t *testing.T) {
	t.Parallel()
	log, entry := shelfOf(3), cursor.Entry{Floor: 10}
	for range 20 {
		b := started(t, patient(), entry)
		b.inProgress("e11")
		log.serve(b)
		entry = b.breaks()
		require.LessOrEqual(t, entry.Sends.Count, 1)
	}
	b := log.attach(t, patient(), entry)
	b.inProgress("e11")
	require.Equal(t, 2, b.breaks().Sends.Count, "of what it was sent again nothing can be said")
}

// A machine that sleeps, and a network that is cut without a word, are noticed
// late: until then the clock would run out, again and again.
func TestASilentDaemonIsNotJudged(t *testing.T) {
	t.Parallel()
	b := shelfOf(1).attach(t, patient(), cursor.Entry{Floor: 10})
	b.lives(20 * time.Second)
	b.after(time.Hour)
	require.Empty(t, b.sent)
	require.Equal(t, cursor.Sends{Sequence: 11}, b.s.Progress(b.now).Entry.Sends)

	b.s.Heard(b.now) // it has woken up, and gets its time again
	b.after(29 * time.Second)
	require.Empty(t, b.sent)
	b.after(time.Second)
	require.Equal(t, []uint64{11}, b.sequences())
	require.Equal(t, vain(11, 1), b.s.Progress(b.now).Entry.Sends)
}
