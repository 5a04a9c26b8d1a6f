package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func keyOf(e event.Event) key { return key{e.OrchestratorID, e.ID} }

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("15:04:05.000")
}

// StoryOf tells all that is known of what was violated, and from when to when
// it happened.
func (l *Ledger) StoryOf(v Violation) (text string, from, to time.Time) {
	if v.Event != "" {
		return l.Story(v.Orchestrator, v.Event)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.crowdStoryLocked(v.Orchestrator, v.From, v.To), v.From, v.To
}

// Story tells all that is known of an event: its publishing, its place, and
// what each connection of its orchestrator, and whoever else had it, saw of it.
// It also returns the time of the first and last of these facts.
func (l *Ledger) Story(orchestrator protocol.OrchestratorID, id string) (text string, from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	k := key{orchestrator, id}
	note := func(t time.Time) {
		if from.IsZero() || !t.IsZero() && t.Before(from) {
			from = t
		}
		if t.After(to) {
			to = t
		}
	}
	var published time.Time
	if p := l.published[k]; p != nil {
		published = p.when
		note(p.when)
		note(p.confirmed)
		fmt.Fprintf(&b, "event %s of %s: type %s, channel %q, daemon %q, requiresAck %t, priority %d\n", id, orchestrator,
			p.event.Type, p.event.ChannelID, p.event.DaemonID, p.event.RequiresAck, p.event.Priority)
		fmt.Fprintf(&b, "  published %s, acknowledged by the log %s\n", stamp(p.when), stamp(p.confirmed))
	}
	at, stored := l.stored[k]
	fmt.Fprintf(&b, "  in the log: %t, partition %d, sequence %d, %s; in the dead letters: %t\n", stored, at.Partition, at.Sequence, stamp(at.When), l.buried[k])
	for _, c := range l.conns {
		lines := c.story(id, l.stored)
		over := c.closed != 0 && c.closedAt.Before(published)
		if len(lines) == 0 && (c.Orchestrator != orchestrator || c.subscribed == 0 || over) {
			continue
		}
		fmt.Fprintf(&b, "  %s: %s to %s, subscribed %t, %d receipts, %d acks\n", c, stamp(c.openedAt), stamp(c.closedAt), c.subscribed > 0, len(c.receipts), len(c.acked))
		for _, line := range lines {
			note(line.when)
			fmt.Fprintf(&b, "    %s %s\n", stamp(line.when), line.text)
		}
	}
	return b.String(), from, to
}

type storyLine struct {
	when time.Time
	text string
}

// story tells what a connection saw of an event, with its neighbours.
func (c *connection) story(id string, stored map[key]Place) []storyLine {
	var lines []storyLine
	for i, r := range c.receipts {
		if r.event.EventID != id {
			continue
		}
		text := fmt.Sprintf("received as number %d, redelivered %t, position %s", i+1, r.event.Redelivered, r.event.Position)
		for _, n := range c.receipts[max(0, i-2):min(len(c.receipts), i+3)] {
			text += fmt.Sprintf("\n        %s %s sequence %d redelivered %t", stamp(n.when), n.event.EventID,
				stored[key{c.Orchestrator, n.event.EventID}].Sequence, n.event.Redelivered)
		}
		lines = append(lines, storyLine{r.when, text})
	}
	if when, ok := c.acked[id]; ok {
		text := "acknowledged"
		if arrived, known := c.arrival(when); known {
			text += ", which the edge had by " + stamp(arrived)
		}
		lines = append(lines, storyLine{when, text})
	}
	slices.SortStableFunc(lines, func(a, b storyLine) int { return a.when.Compare(b.when) })
	return lines
}

// Delivery is when an event that its orchestrator's daemons wanted was
// published, and what a seat saw of it.
type Delivery struct {
	Seat      Seat
	Event     event.Event
	Published time.Time
	Stored    time.Time // in the log; zero: not known
	// Subscribed is from when on the connection that got it first was subscribed.
	Subscribed time.Time
	Received   time.Time
	Again      []time.Time // when it came again
	Position   string      // as of its last receipt
	Acked      time.Time   // zero: it is not
}

// CameAfter reports whether it has come, or come again, after a time.
func (d Delivery) CameAfter(when time.Time) bool {
	return d.Received.After(when) || len(d.Again) > 0 && d.Again[len(d.Again)-1].After(when)
}

// AckedBy reports whether it was acknowledged by a time.
func (d Delivery) AckedBy(when time.Time) bool { return !d.Acked.IsZero() && !d.Acked.After(when) }

// Deliveries returns every event that came to a seat, in the order in which
// the seats first had them.
func (l *Ledger) Deliveries() []Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	type arrival struct {
		seat Seat
		id   string
	}
	var all []Delivery
	seen := map[arrival]int{}
	for _, c := range l.conns {
		for _, r := range c.receipts {
			a := arrival{c.Seat, r.event.EventID}
			p := l.published[key{c.Orchestrator, a.id}]
			if i, again := seen[a]; again {
				all[i].Again, all[i].Position = append(all[i].Again, r.when), r.event.Position
			} else if p != nil {
				seen[a] = len(all)
				published := p.when
				if !p.confirmed.IsZero() {
					published = p.confirmed
				}
				all = append(all, Delivery{
					Seat: c.Seat, Event: p.event, Published: published, Stored: l.stored[key{c.Orchestrator, a.id}].When,
					Subscribed: c.subscribedAt, Received: r.when, Position: r.event.Position,
				})
			}
		}
		for id, when := range c.acked {
			if i, ok := seen[arrival{c.Seat, id}]; ok && all[i].Acked.IsZero() {
				all[i].Acked = when
			}
		}
	}
	return all
}
