package ledger_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/ledger"
)

// limit allows two connections, and four seconds to get there.
func limit(together func(from, to time.Time) bool) ledger.Promise {
	return ledger.Promise{Limit: ledger.Limit{Connections: 2, Spread: 4 * time.Second, Together: together}}
}

func always(time.Time, time.Time) bool { return true }

func TestAsManyConnectionsAsAllowedAreNoViolation(t *testing.T) {
	t.Parallel()
	b := newBroken()
	first := b.connect("edge-1")
	b.connect("edge-2")
	b.after(time.Minute)
	b.Closed(first)
	b.connect("edge-3")
	b.after(time.Minute)
	report := b.Check(limit(always))
	require.Empty(t, report.Violations)
	require.Equal(t, 2, report.MostConnections)
	require.Zero(t, report.OverLimit)
}

func TestTooManyConnectionsForLongAreFound(t *testing.T) {
	t.Parallel()
	b := newBroken()
	b.connect("edge-1")
	b.connect("edge-2")
	b.after(time.Second)
	third := b.connect("edge-3")
	b.after(5 * time.Second)
	b.Closed(third)
	b.after(time.Minute)
	report := b.Check(limit(always))
	require.Equal(t, []ledger.Kind{ledger.Crowded}, kinds(report))
	require.Equal(t, 3, report.MostConnections)
	require.Equal(t, 5*time.Second, report.OverLimit)
	text, from, to := b.StoryOf(report.Violations[0])
	require.Equal(t, epoch.Add(time.Second), from)
	require.Equal(t, epoch.Add(6*time.Second), to)
	for _, edge := range []string{"edge-1", "edge-2", "edge-3"} {
		require.Contains(t, text, edge)
	}
}

func TestTooManyConnectionsThatAreStillOpenAreFound(t *testing.T) {
	t.Parallel()
	b := newBroken()
	for range 3 {
		b.connect("edge-1")
	}
	b.after(5 * time.Second)
	require.Equal(t, []ledger.Kind{ledger.Crowded}, kinds(b.Check(limit(always))))
}

func TestAClaimHasTimeToSpread(t *testing.T) {
	t.Parallel()
	b := newBroken()
	b.connect("edge-1")
	b.connect("edge-2")
	for range 10 {
		over := b.connect("edge-3")
		b.after(3 * time.Second)
		b.Closed(over)
	}
	report := b.Check(limit(always))
	require.Empty(t, report.Violations)
	require.Equal(t, 30*time.Second, report.OverLimit)
}

func TestEdgesThatDoNotSeeEachOtherMayExceedTheLimitTogether(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		healed  time.Duration // when the edges see each other again
		violate bool
	}{
		{"all the time", time.Minute, false},
		{"until just before the end", 27 * time.Second, false},
		{"until long before the end", 20 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBroken()
			b.connect("edge-1")
			b.connect("edge-2")
			over := b.connect("edge-3")
			b.after(30 * time.Second)
			b.Closed(over)
			report := b.Check(limit(func(from, _ time.Time) bool { return !from.Before(epoch.Add(test.healed)) }))
			if test.violate {
				require.Equal(t, []ledger.Kind{ledger.Crowded}, kinds(report))
				return
			}
			require.Empty(t, report.Violations)
		})
	}
}

func TestConnectionsOfOthersDoNotCount(t *testing.T) {
	t.Parallel()
	b := newBroken()
	b.connect("edge-1")
	b.connect("edge-2")
	b.Subscribed(b.Connected(ledger.Connection{Seat: "other", Orchestrator: "B"}))
	b.Connected(ledger.Connection{Seat: "s", Orchestrator: "A"}) // refused, never subscribed
	b.after(time.Minute)
	require.Empty(t, b.Check(limit(always)).Violations)
}
