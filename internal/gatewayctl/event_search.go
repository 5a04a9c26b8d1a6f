package gatewayctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Where an event may be found, one place after the other.

// findOrchestrator looks for whose the event is: where that is quick first.
func (s *eventSearch) findOrchestrator(ctx context.Context) error {
	for _, look := range []func(context.Context, map[string]bool) error{s.ownersInTraces, s.ownersInLog, s.ownersInLetters, s.ownersUnresolved} {
		owners := map[string]bool{}
		if err := look(ctx, owners); err != nil {
			s.way.Problems = append(s.way.Problems, err.Error())
		}
		switch all := slices.Sorted(maps.Keys(owners)); len(all) {
		case 0:
		case 1:
			s.way.Orchestrator = all[0]
			return nil
		default:
			return errSeveral(s.way.Event, all)
		}
	}
	return nil
}

func (s *eventSearch) ownersInTraces(ctx context.Context, owners map[string]bool) error {
	stream, err := s.js.Stream(ctx, eventlog.TraceStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", eventlog.TraceStream, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(eventlog.TraceSubject("*", event.TokenOf(s.way.Event))))
	if err != nil {
		return fmt.Errorf("look among the hops: %w", err)
	}
	for subject := range info.State.Subjects {
		own(owners, event.Token(strings.Split(subject, ".")[2]))
	}
	return nil
}

// own notes whose an event is, by the token in a subject.
func own(owners map[string]bool, token event.Token) {
	if id, err := token.ID(); err == nil {
		owners[id] = true
	}
}

func (s *eventSearch) ownersInLog(ctx context.Context, owners map[string]bool) error {
	var problems []error
	for p := range event.Partition(len(s.epochs)) {
		problems = append(problems, s.ownersInHeads(ctx, event.StreamName(p), event.Subject(p, "*"), owners))
	}
	return errors.Join(problems...)
}

// ownersInHeads goes through the ids of all messages of a stream, whose subjects end
// with the token of the orchestrator.
func (s *eventSearch) ownersInHeads(ctx context.Context, stream, subjects string, owners map[string]bool) error {
	end := "/" + string(event.TokenOf(s.way.Event))
	return eachHead(ctx, s.js, stream, []string{subjects}, func(m jetstream.Msg, _ *jetstream.MsgMetadata) {
		if strings.HasSuffix(m.Headers().Get(jetstream.MsgIDHeader), end) {
			own(owners, event.Token(m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]))
		}
	})
}

func (s *eventSearch) ownersInLetters(ctx context.Context, owners map[string]bool) error {
	return (&letterSelection{all: true}).each(ctx, s.js, func(d deadLetter) {
		if d.EventID == s.way.Event && d.Orchestrator != "" {
			owners[d.Orchestrator] = true
		}
	})
}

func (s *eventSearch) ownersUnresolved(ctx context.Context, owners map[string]bool) error {
	err := s.ownersInHeads(ctx, eventlog.UnresolvedStream, eventlog.UnresolvedSubject("*"), owners)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

// readHops reads what nodes have noted.
func (s *eventSearch) readHops(ctx context.Context, token event.Token) error {
	var wrong error
	subject := eventlog.TraceSubject(token, event.TokenOf(s.way.Event))
	err := each(ctx, s.js, eventlog.TraceStream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}},
		func(m jetstream.Msg, _ *jetstream.MsgMetadata) {
			var record trace.Record
			if err := json.Unmarshal(m.Data(), &record); err != nil {
				wrong = fmt.Errorf("read a hop: %w", err)
				return
			}
			s.hops.Add(record)
			if record.Epoch == string(s.way.Epoch) {
				s.noted = max(s.noted, record.Sequence)
			}
		})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return errors.Join(err, wrong)
}

func (s *eventSearch) readLetters(ctx context.Context) error {
	return (&letterSelection{orchestrator: s.way.Orchestrator}).each(ctx, s.js, func(d deadLetter) {
		if d.EventID == s.way.Event {
			d.Body, d.BodyBase64 = "", nil
			s.way.DeadLetters = append(s.way.DeadLetters, d)
		}
	})
}

// readUnresolved looks among the events whose addressee nobody knows.
func (s *eventSearch) readUnresolved(ctx context.Context, token event.Token) error {
	id := event.MessageID(token, s.way.Event)
	err := eachHead(ctx, s.js, eventlog.UnresolvedStream, []string{eventlog.UnresolvedSubject(token)}, func(m jetstream.Msg, at *jetstream.MsgMetadata) {
		if m.Headers().Get(jetstream.MsgIDHeader) == id {
			s.way.Waits = at.Timestamp
		}
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // there is no database
	}
	return err
}

// readStored finds the event in the log: by the id under which it was published, or
// else among those that were published under another.
func (s *eventSearch) readStored(ctx context.Context, token event.Token) error {
	stream := event.StreamName(s.way.Partition)
	id, own := event.MessageID(token, s.way.Event), string(token)+"/"
	var found, others []uint64
	err := eachHead(ctx, s.js, stream, []string{event.Subject(s.way.Partition, token)}, func(m jetstream.Msg, at *jetstream.MsgMetadata) {
		switch given := m.Headers().Get(jetstream.MsgIDHeader); {
		case given == id:
			found = append(found, at.Sequence.Stream)
		case !strings.HasPrefix(given, own):
			others = append(others, at.Sequence.Stream)
		}
	})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		found = others
	}
	if len(found) == 0 {
		return nil
	}
	log, err := s.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", stream, err)
	}
	for _, sequence := range found {
		m, err := log.GetMsg(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it has just gone
		}
		if err != nil {
			return fmt.Errorf("read event %d of partition %d: %w", sequence, s.way.Partition, err)
		}
		if e := describeStored(m); e.id == s.way.Event {
			s.way.Stored = append(s.way.Stored, e.storedEvent)
		}
	}
	return nil
}

type identified struct {
	id string
	storedEvent
}

func describeStored(m *jetstream.RawStreamMsg) identified {
	e, err := event.Parse(m.Data, len(m.Data))
	var invalid *event.InvalidError
	if errors.As(err, &invalid) {
		e = invalid.Event
	}
	stored := storedEvent{
		Sequence: m.Sequence, Stored: m.Time, Bytes: len(m.Data), Type: string(e.Type), RequiresAck: e.RequiresAck, Daemon: string(e.DaemonID),
	}
	if err != nil {
		stored.Problem = err.Error()
	}
	if hop, ok := trace.PublishedAt(e.Timestamp); ok {
		stored.published = hop
	}
	return identified{e.ID, stored}
}

// askRouters finds out who serves the partition, and how far.
func (s *eventSearch) askRouters(ctx context.Context) error {
	all, err := askPartitions(ctx, s.client)
	if err != nil {
		return err
	}
	s.way.Silent = append(s.way.Silent, all.Silent...)
	for _, p := range all.Partitions {
		if p.ID == int(s.way.Partition) && p.Node != "" {
			s.way.Routers = append(s.way.Routers, p)
		}
	}
	return nil
}

// askEdges finds out what their connections have of the event.
func (s *eventSearch) askEdges(ctx context.Context, held map[protocol.DaemonID][]heldEvent) error {
	request := operation.EventRequest{Orchestrator: s.way.Orchestrator, Event: s.way.Event}
	answers, err := s.client.Ask(ctx, operation.Event, request, operation.Edge)
	if err != nil {
		return fmt.Errorf("ask edges: %w", err)
	}
	s.way.Silent = append(s.way.Silent, answers.Silent...)
	return operation.Each(answers, func(of operation.Member, report operation.EventReport) {
		for _, c := range report.Connections {
			id := protocol.DaemonID(c.Daemon)
			for _, h := range c.Held {
				held[id] = append(held[id], heldEvent{of.Node, c.Session, h})
			}
		}
	})
}

// readCursors finds out where each daemon stands with the event.
func (s *eventSearch) readCursors(ctx context.Context, token event.Token, held map[protocol.DaemonID][]heldEvent) error {
	sequence, addressee := s.noted, protocol.DaemonID("")
	if n := len(s.way.Stored); n > 0 {
		sequence, addressee = s.way.Stored[n-1].Sequence, protocol.DaemonID(s.way.Stored[n-1].Daemon)
	}
	if sequence == 0 {
		return nil
	}
	record, err := readRecord(ctx, s.js, s.way.Partition, token)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(record.Daemons)) {
		e := record.Daemons[id]
		d := eventDaemon{Daemon: nameOf(id), Connected: e.Edge, Held: held[id]}
		d.Settled = record.Epoch == s.way.Epoch && e.Settles(sequence)
		d.Words = s.stands(d, addressee != "" && addressee != id && !slices.Contains(e.AnswersFor, addressee), record.Epoch != s.way.Epoch)
		s.way.Daemons = append(s.way.Daemons, d)
	}
	if _, awaited := record.Awaited[addressee]; awaited {
		s.way.Daemons = append(s.way.Daemons, eventDaemon{Daemon: string(addressee), Words: "never seen; the event waits for it"})
	}
	return nil
}

// stands says in words where a daemon stands with the event.
func (s *eventSearch) stands(d eventDaemon, foreign, stale bool) string {
	where := "connected to " + d.Connected
	if d.Connected == "" || d.Connected == cursor.UnknownEdge {
		where = "not connected"
	}
	var words []string
	switch {
	case d.Settled && foreign:
		words = append(words, "settled: it is for another daemon")
	case d.Settled:
		words = append(words, "settled: acknowledged, not subscribed to, not needing it, or a dead letter")
	case stale:
		words = append(words, "not settled: its cursor is of an earlier life of the log", where)
	case len(d.Held) == 0:
		words = append(words, "not settled, and in no edge's hands", where)
	}
	for _, h := range d.Held {
		words = append(words, h.inWords(s))
	}
	return strings.Join(words, "; ")
}

func (h heldEvent) inWords(s *eventSearch) string {
	words := "being sent by " + h.Edge
	switch {
	case h.GivenUp:
		words = "on its way from " + h.Edge + " to the dead letters"
	case h.InHand && h.Written.IsZero():
		words = "not acknowledged yet, sent by " + h.Edge
	case h.InHand:
		words = fmt.Sprintf("not acknowledged yet, sent by %s %s ago", h.Edge, age(s.now, h.Written))
	}
	if h.Vain > 0 {
		words += fmt.Sprintf(", tried %d times in vain", h.Vain)
	}
	return words
}
