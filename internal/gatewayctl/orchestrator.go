package gatewayctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/cursor"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/revocation"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// orchestrator is where one stands.
type orchestrator struct {
	Orchestrator string          `json:"orchestrator"`
	Partition    event.Partition `json:"partition"`
	// Epoch is the life of the partition's log.
	Epoch eventlog.Epoch `json:"epoch"`
	// Events are what the log holds of it.
	Events retained `json:"events"`
	// Daemons are those of which a cursor is kept.
	Daemons []daemon `json:"daemons"`
	// Awaited are ids of daemons never seen for which events wait.
	Awaited []string `json:"awaited"`
	// DeadLetters counts them by reason.
	DeadLetters map[string]uint64 `json:"deadLetters"`
	// RevokedUntil is set while the orchestrator is revoked.
	RevokedUntil time.Time    `json:"revokedUntil,omitzero"`
	Connections  []connection `json:"connections"`
	// Sessions are the last ones, the newest first, where there is a database; Unasked
	// says why they are not known.
	Sessions []operation.PastSession `json:"sessions"`
	Unasked  string                  `json:"unasked,omitempty"`
	Silent   []operation.Member      `json:"silent"`
}

// retained are the events of an orchestrator that the log holds.
type retained struct {
	Count  int       `json:"count"`
	First  uint64    `json:"first,omitempty"`
	Last   uint64    `json:"last,omitempty"`
	Oldest time.Time `json:"oldest,omitzero"`
	Newest time.Time `json:"newest,omitzero"`

	sequences []uint64
	stored    []time.Time
}

// daemon is where one stands in the log.
type daemon struct {
	Daemon string `json:"daemon"`
	// Connected is the edge that holds it, as the cursor says.
	Connected string `json:"connected,omitempty"`
	// Floor: everything up to here is settled for it.
	Floor uint64 `json:"floor"`
	// Waiting is how many events are not settled for it, whether it wants them or
	// not, the oldest stored at WaitingSince.
	Waiting      int       `json:"waiting"`
	WaitingSince time.Time `json:"waitingSince,omitzero"`
	// Vain is how often the oldest unsettled event was sent in vain.
	Vain          int      `json:"vain,omitempty"`
	Subscriptions []string `json:"subscriptions"`
	AnswersFor    []string `json:"answersFor,omitempty"`
	// Written is when the cursor was.
	Written time.Time `json:"written,omitzero"`
	// Stale: the cursor is of an earlier life of the log, so that it starts from the
	// oldest event.
	Stale bool `json:"stale,omitempty"`
	// Words say all of that.
	Words string `json:"words"`
}

func (p *program) orchestratorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "orchestrator <id>",
		Short: "Show where an orchestrator stands: the cursor of each daemon in words, what waits, connections, dead letters",
		Args:  cobra.ExactArgs(1),
	}
	look := p.watchable(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return look(cmd.Context(), func(ctx context.Context, client *operation.Client) (finding, error) {
			return p.findOrchestrator(ctx, client, protocol.OrchestratorID(args[0]))
		})
	}
	return c
}

func (o orchestrator) unwell() error { return silence(o.Silent) }

func (p *program) findOrchestrator(ctx context.Context, client *operation.Client, id protocol.OrchestratorID) (orchestrator, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*p.timeout)
	defer cancel()
	js, err := p.jetStream(client)
	if err != nil {
		return orchestrator{}, err
	}
	epochs, err := eventlog.Epochs(ctx, js)
	if err != nil {
		return orchestrator{}, fmt.Errorf("read the log's state: %w", err)
	}
	token := event.TokenOf(id)
	o := orchestrator{Orchestrator: string(id), Partition: event.PartitionOf(token, len(epochs)), Daemons: []daemon{}, Awaited: []string{}}
	o.Epoch = epochs[o.Partition]
	if o.Events, err = readRetained(ctx, js, o.Partition, token); err != nil {
		return o, err
	}
	record, err := readRecord(ctx, js, o.Partition, token)
	if err != nil {
		return o, err
	}
	for _, id := range slices.Sorted(maps.Keys(record.Daemons)) {
		o.Daemons = append(o.Daemons, o.stand(id, record.Daemons[id], record.Epoch))
	}
	for _, id := range slices.Sorted(maps.Keys(record.Awaited)) {
		o.Awaited = append(o.Awaited, nameOf(id))
	}
	if o.DeadLetters, err = countDeadLetters(ctx, js, token); err != nil {
		return o, err
	}
	if o.RevokedUntil, err = revokedUntil(ctx, js, id); err != nil {
		return o, err
	}
	held, err := askConnections(ctx, client, operation.ConnectionsRequest{
		Selection: operation.Selection{Orchestrator: string(id)}, Limit: operation.MaxConnections,
	})
	if errors.Is(err, operation.ErrNobody) {
		held, err = connections{Connections: []connection{}, Silent: []operation.Member{}}, nil
	}
	o.Connections, o.Silent = held.Connections, held.Silent
	o.askSessions(ctx, client, id)
	return o, err
}

// lastSessions is how many of them are shown.
const lastSessions = 5

// askSessions asks an edge for the last sessions.
func (o *orchestrator) askSessions(ctx context.Context, client *operation.Client, id protocol.OrchestratorID) {
	o.Sessions = []operation.PastSession{}
	answer, err := client.AskOne(ctx, operation.Sessions, operation.SessionsRequest{Orchestrator: id, Limit: lastSessions}, operation.Edge)
	var report operation.SessionsReport
	if err == nil {
		err = json.Unmarshal(answer.Body, &report)
	}
	if err != nil {
		o.Unasked = err.Error()
		return
	}
	o.Sessions = append(o.Sessions, report.Sessions...)
}

// readRetained reads the heads of the events of an orchestrator.
func readRetained(ctx context.Context, js jetstream.JetStream, p event.Partition, token event.Token) (r retained, err error) {
	err = eachHead(ctx, js, event.StreamName(p), []string{event.Subject(p, token)}, func(m jetstream.Msg, at *jetstream.MsgMetadata) {
		r.sequences, r.stored = append(r.sequences, at.Sequence.Stream), append(r.stored, at.Timestamp)
	})
	if r.Count = len(r.sequences); r.Count > 0 {
		r.First, r.Last = r.sequences[0], r.sequences[r.Count-1]
		r.Oldest, r.Newest = r.stored[0], r.stored[r.Count-1]
	}
	return r, err
}

func readRecord(ctx context.Context, js jetstream.JetStream, p event.Partition, token event.Token) (cursor.Record, error) {
	bucket := eventlog.CursorBucket(p)
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return cursor.Record{}, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	entry, err := kv.Get(ctx, string(token))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return cursor.Record{}, nil
	case err != nil:
		return cursor.Record{}, fmt.Errorf("read the cursors: %w", err)
	}
	return cursor.Decode(entry.Value())
}

// stand says where a daemon stands.
func (o orchestrator) stand(id protocol.DaemonID, e cursor.Entry, epoch eventlog.Epoch) daemon {
	d := daemon{
		Daemon: nameOf(id), Connected: e.Edge, Floor: e.Floor, Written: e.Written, Stale: epoch != o.Epoch,
		Subscriptions: []string{},
	}
	if d.Stale {
		e.Floor, e.Settled, e.Sends = 0, nil, cursor.Sends{}
		d.Floor = 0
	}
	for i, sequence := range o.Events.sequences {
		if !e.Settles(sequence) {
			if d.Waiting == 0 {
				d.WaitingSince = o.Events.stored[i]
				d.Vain = e.Sends.Of(sequence, o.Events.stored[i])
			}
			d.Waiting++
		}
	}
	for _, s := range e.Subscriptions {
		d.Subscriptions = append(d.Subscriptions, operation.Subscribed(s))
	}
	for _, other := range e.AnswersFor {
		d.AnswersFor = append(d.AnswersFor, string(other))
	}
	d.Words = d.inWords(time.Now())
	return d
}

// nameOf names a daemon, or what stands for several.
func nameOf(id protocol.DaemonID) string {
	if id == cursor.Remainder { // of notes: cursor.Anybody
		return "(others)"
	}
	return string(id)
}

func (d daemon) inWords(now time.Time) string {
	var words []string
	switch d.Connected {
	case "":
		words = append(words, "not connected")
	case cursor.UnknownEdge:
	default:
		words = append(words, "connected to "+d.Connected)
	}
	if d.Stale {
		words = append(words, "its cursor is of an earlier life of the log, so it starts from the oldest event")
	}
	switch d.Waiting {
	case 0:
		words = append(words, "everything settled")
	case 1:
		words = append(words, fmt.Sprintf("one event not settled, stored %s ago", age(now, d.WaitingSince)))
	default:
		words = append(words, fmt.Sprintf("%d events not settled, the oldest stored %s ago", d.Waiting, age(now, d.WaitingSince)))
	}
	if d.Vain > 0 {
		words = append(words, fmt.Sprintf("the oldest was sent %d times in vain", d.Vain))
	}
	if len(d.AnswersFor) > 0 {
		words = append(words, "answers for "+strings.Join(d.AnswersFor, ", "))
	}
	return strings.Join(words, "; ")
}

// countDeadLetters counts an orchestrator's by reason.
func countDeadLetters(ctx context.Context, js jetstream.JetStream, token event.Token) (map[string]uint64, error) {
	counts := map[string]uint64{}
	stream, err := js.Stream(ctx, eventlog.DeadletterStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return counts, nil
	}
	if err != nil {
		return nil, fmt.Errorf("count the dead letters: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(eventlog.DeadLetterSubjects("*", token)))
	if err != nil {
		return nil, fmt.Errorf("count the dead letters: %w", err)
	}
	for subject, n := range info.State.Subjects {
		counts[strings.Split(subject, ".")[2]] += n
	}
	return counts, nil
}

func revokedUntil(ctx context.Context, js jetstream.JetStream, id protocol.OrchestratorID) (time.Time, error) {
	kv, err := js.KeyValue(ctx, revocation.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("bucket %s: %w", revocation.Bucket, err)
	}
	entry, err := kv.Get(ctx, string(revocation.KeyOf(revocation.Orchestrator, id)))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read what is revoked: %w", err)
	}
	if until := revocation.Decode(entry.Value(), entry.Created()).Until; until.After(time.Now()) {
		return until, nil
	}
	return time.Time{}, nil
}

func (o orchestrator) print(w io.Writer) {
	now := time.Now()
	fmt.Fprintf(w, "Orchestrator %s, partition %d\n", o.Orchestrator, o.Partition)
	if !o.RevokedUntil.IsZero() {
		fmt.Fprintf(w, "Revoked until %s\n", o.RevokedUntil.Format(time.RFC3339))
	}
	if o.Events.Count == 0 {
		fmt.Fprintln(w, "The log holds no events of it.")
	} else {
		fmt.Fprintf(w, "The log holds %d events of it: %d, stored %s ago, to %d, stored %s ago.\n",
			o.Events.Count, o.Events.First, age(now, o.Events.Oldest), o.Events.Last, age(now, o.Events.Newest))
	}
	for _, reason := range slices.Sorted(maps.Keys(o.DeadLetters)) {
		fmt.Fprintf(w, "Dead letters, %s: %d\n", reason, o.DeadLetters[reason])
	}
	fmt.Fprintln(w, "\nDaemons:")
	for _, d := range o.Daemons {
		fmt.Fprintf(w, "- %s: %s (settled up to %d, as written %s ago)\n", oneLine(d.Daemon), oneLine(d.Words), d.Floor, age(now, d.Written))
	}
	if len(o.Daemons) == 0 {
		fmt.Fprintln(w, "- none has ever subscribed, or all were forgotten")
	}
	for _, id := range o.Awaited {
		fmt.Fprintf(w, "- %s: never seen; events that name it wait for it\n", oneLine(id))
	}
	fmt.Fprintln(w, "\nConnections:")
	connections{Total: len(o.Connections), Connections: o.Connections, Silent: o.Silent}.print(w)
	o.printSessions(w, now)
}

func (o orchestrator) printSessions(w io.Writer, now time.Time) {
	if o.Unasked != "" {
		fmt.Fprintf(w, "\nThe last sessions are not known: %s\n", oneLine(o.Unasked))
	}
	if len(o.Sessions) == 0 {
		return
	}
	fmt.Fprintln(w, "\nLast sessions:")
	row(w, "DAEMON", "STATE", "BEGAN", "LASTED", "EDGE", "ADDRESS", "SENT", "ACKED", "END")
	for _, s := range o.Sessions {
		end, lasted := "-", age(now, s.Connected)
		if !s.Ended.IsZero() {
			end, lasted = strings.TrimSpace(fmt.Sprintf("%d %s", s.Code, s.Reason)), age(s.Ended, s.Connected)
		}
		row[any](w, dash(s.Daemon), s.State, age(now, s.Connected)+" ago", lasted, s.Edge, dash(s.Address), s.Sent, s.Acked, end)
	}
}
