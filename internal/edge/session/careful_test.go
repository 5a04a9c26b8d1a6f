package session_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/cursor"
)

// crashers are daemons that one event crashes, whatever else they are doing:
// what each acknowledges of what it has in hand.
var crashers = map[string]func(hand []uint64, culprit uint64) []uint64{
	// one after the other, each acknowledged when it is done
	"serial": func(hand []uint64, culprit uint64) []uint64 {
		if i := slices.Index(hand, culprit); i >= 0 {
			return hand[:i]
		}
		return hand
	},
	// all at once: the culprit crashes it before it has acknowledged anything
	"parallel": func(hand []uint64, culprit uint64) []uint64 {
		if slices.Contains(hand, culprit) {
			return nil
		}
		return hand
	},
	// ten at a time, acknowledged together
	"in batches": func(hand []uint64, culprit uint64) []uint64 {
		if i := slices.Index(hand, culprit); i >= 0 {
			return hand[:i-i%10]
		}
		return hand
	},
	// the newest first
	"backwards": func(hand []uint64, culprit uint64) []uint64 {
		return hand[slices.Index(hand, culprit)+1:]
	},
}

// Invariant 1, for those who have done nothing: an event that crashes its daemon
// took those before it into the dead letters. Checked by letting carefulAt
// return a million: the events before the culprit are given up.
func TestAnEventThatCrashesItsDaemonGoesAlone(t *testing.T) {
	t.Parallel()
	for name, work := range crashers {
		for _, most := range []int{1, 2, 3, 5} {
			t.Run(fmt.Sprintf("%s, %d tries", name, most), func(t *testing.T) {
				t.Parallel()
				const culprit = 11 + 36
				log, entry := shelfOf(100), cursor.Entry{Floor: 10}
				var given []uint64
				crashes, alone := 0, 0
				for entry.Floor < 110 {
					require.Less(t, crashes, 30, "stuck at %+v", entry)
					b := log.attach(t, patient(tries(most)), entry)
					for len(b.hand) > 0 || b.dead != nil {
						if q := b.buried(); q > 0 {
							given = append(given, q)
							b.hand = slices.DeleteFunc(b.hand, func(other uint64) bool { return other == q })
							log.serve(b)
							entry = b.s.Progress(b.now).Entry
							continue
						}
						crash := slices.Contains(b.hand, culprit)
						if crash && len(b.hand) == 1 {
							alone++
						}
						for _, q := range work(b.hand, culprit) {
							b.ack(fmt.Sprintf("e%d", q))
						}
						b.hand = nil
						if crash {
							crashes++
							entry = b.breaks()
							break
						}
						log.serve(b)
						entry = b.s.Progress(b.now).Entry
					}
				}
				require.Equal(t, []uint64{culprit}, given)
				require.GreaterOrEqual(t, alone, 1, "nobody else can have done it")
				t.Logf("%d crashes, %d of them alone", crashes, alone)
			})
		}
	}
}

// What is stored is enough to go on carefully: there is no other memory of it.
func TestCarefulDeliveryFollowsFromTheCursor(t *testing.T) {
	t.Parallel()
	log := shelfOf(10)
	doubted := cursor.Entry{Floor: 10, Sends: vain(11, 2), Sent: 20}
	b := log.attach(t, patient(), doubted)
	require.Equal(t, []uint64{11}, b.hand)
	b.lives(29 * time.Second)
	require.Equal(t, []uint64{11}, b.hand)

	moved := log.attach(t, patient(), b.s.Progress(b.now).Entry)
	require.Equal(t, []uint64{11}, moved.hand, "a graceful move changes nothing")

	moved.ack("e11")
	log.serve(moved)
	require.Equal(t, []uint64{11, 12, 13}, moved.hand, "an ack comes, and two may go, then four")
	moved.ack("e12", "e13")
	log.serve(moved)
	require.Equal(t, []uint64{11, 12, 13, 14, 15, 16, 17}, moved.hand)
	require.Equal(t, cursor.Sends{Sequence: 14}, moved.s.Progress(moved.now).Entry.Sends)
}

func TestCarefulDeliveryEndsWhereTheDoubtedEventIsGone(t *testing.T) {
	t.Parallel()
	doubted := cursor.Entry{Floor: 10, Sends: vain(11, 2), Sent: 20}
	tests := map[string]struct {
		log  shelf
		then func(b *bench)
	}{
		"expired":      {shelfOf(10)[1:], func(*bench) {}},
		"acknowledged": {shelfOf(10), func(b *bench) { b.ack("e11") }},
		"given up": {shelfOf(10), func(b *bench) {
			for range 3 {
				b.lives(30 * time.Second)
				b.write()
			}
			require.Equal(b, uint64(11), b.buried())
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := tt.log.attach(t, patient(), doubted)
			tt.then(b)
			for q := uint64(12); q <= 20; q++ {
				tt.log.serve(b)
				b.ack(fmt.Sprintf("e%d", q))
			}
			require.True(t, b.s.Live())
			require.Equal(t, uint64(20), b.s.Floor())
		})
	}
}

// A link that broke again and again while an event was on its way made a dead letter
// of it, though the daemon had never received it. Checked by letting inDoubt return
// false: the event is given up.
func TestALinkThatNeverBringsAnEventIsNotHeldAgainstIt(t *testing.T) {
	t.Parallel()
	log, entry := shelfOf(3), cursor.Entry{Floor: 10}
	for range 20 {
		b := started(t, patient(), entry)
		b.lossy = true
		log.serve(b)
		require.Nil(t, b.dead)
		entry = b.breaks()
	}
	require.Equal(t, vain(11, 2), entry.Sends, "it goes alone, and no more")
	b := log.attach(t, patient(), entry)
	require.Equal(t, []uint64{11}, b.hand)
	require.Equal(t, vain(11, 3), b.breaks().Sends, "this time it has come")
}

// A link that is cut in one direction alone brings heartbeats, and no events.
func TestTheAckClockStandsUntilADaemonHasAnswered(t *testing.T) {
	t.Parallel()
	b := started(t, patient(), cursor.Entry{Floor: 10})
	b.lossy = true
	shelfOf(1).serve(b)
	b.lives(30 * time.Second)
	require.False(t, b.sent[0].Ping)
	b.write()
	b.lives(30 * time.Second)
	last := b.sent[0]
	require.True(t, last.Ping)
	b.write()
	b.s.Answered(last.Run+1, 11, b.now)
	b.s.Answered(last.Run, 12, b.now)
	b.lives(time.Hour)
	require.Empty(t, b.sent)
	require.Equal(t, vain(11, 2), b.s.Progress(b.now).Entry.Sends)

	b.s.Answered(last.Run, 11, b.now)
	b.lives(29 * time.Second)
	require.Empty(t, b.sent, "it has its time from now on")
	b.lives(time.Second)
	require.Equal(t, []uint64{11}, b.sequences())
	require.Equal(t, vain(11, 3), b.s.Progress(b.now).Entry.Sends)
}

func TestWhatNeedsNoAckNeedsNoAnswer(t *testing.T) {
	t.Parallel()
	b := live(t, patient(tries(1)))
	b.forward(10, at(11, noAck))
	b.forward(11, at(12))
	require.Equal(t, []bool{false, true}, []bool{b.sent[0].Ping, b.sent[1].Ping}, "the first try may be the last")
}

// A log that was put back stores other events under the same sequences, and until
// somebody has noticed they are taken for the same ones.
func TestACountOfVainTriesIsNotHeldAgainstAnotherEvent(t *testing.T) {
	t.Parallel()
	log, entry := shelfOf(3), cursor.Entry{Floor: 10}
	for range 5 {
		entry = log.attach(t, patient(), entry).breaks()
	}
	require.Equal(t, vain(11, 5), entry.Sends)
	require.Equal(t, uint64(11), log.attach(t, patient(), entry).buried())

	log[0].Stored = log[0].Stored.Add(time.Nanosecond)
	b := log.attach(t, patient(), entry)
	require.Zero(t, b.buried())
	require.Equal(t, []uint64{11}, b.hand)
	require.Equal(t, cursor.Sends{Sequence: 11}, b.s.Progress(b.now).Entry.Sends)
}

// On a connection that lives, what is out is out: holding others back would find
// no culprit, and cost the daemon its events of the next minutes.
func TestOthersGoOnWhileALivingDaemonLeavesOneUnacknowledged(t *testing.T) {
	t.Parallel()
	b := live(t, patient())
	b.forward(10, at(11))
	for range 4 {
		b.write()
		b.lives(30 * time.Second)
	}
	b.write()
	b.forward(11, at(12))
	require.Equal(t, []uint64{12}, b.sequences())
}

// Where others are in hand, one of them may have broken the connection.
func TestTheLastTriesOfAnEventAreAlone(t *testing.T) {
	t.Parallel()
	b := live(t, patient())
	b.forward(10, at(11))
	b.forward(11, at(12))
	for range 4 {
		b.write()
		b.lives(30 * time.Second)
	}
	b.write()
	require.Equal(t, vain(11, 4), b.breaks().Sends)
	b = shelfOf(2).attach(t, patient(), b.s.Progress(b.now).Entry)
	require.Equal(t, []uint64{11}, b.hand)
	require.Equal(t, vain(11, 5), b.breaks().Sends)
}
