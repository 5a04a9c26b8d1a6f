package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/neolith/daemon-gateway/internal/canary"
	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/internal/trace"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// rejectReasons is the closed set of the metric's label.
var rejectReasons = []event.Reason{
	event.ReasonTooLarge, event.ReasonNotJSON, event.ReasonInvalidUTF8, event.ReasonMissingField,
	event.ReasonInvalidField, event.ReasonUnresolvedDaemon, event.ReasonRefused,
}

// job is what is to be done with one message; the sequencer holds jobs.
type job struct {
	kind  jobKind
	event event.Event
	body  []byte
	// channel is where it was heard; empty where it came in another way.
	channel string
	// given is the id by which the event named its addressee, if its orchestrator
	// was asked for.
	given protocol.OrchestratorID
	// Of a burying job: why, and what exactly is wrong.
	reason event.Reason
	detail string
	// Of a keeping job: why it has to wait.
	cause cause
	// Of a resolving job: the list that says whose the event is, as far as anything
	// does: its name is a daemon's or an orchestrator's.
	list protocol.DaemonID
	// own: nothing says whose daemon it is; the event's own orchestrator is believed
	// if there is one of that id.
	own bool
	// Of a job that somebody waits for.
	request *request
	// at is when it came here.
	at time.Time
	// span is that of its being stored, if it is traced and was tried: each further try
	// has the same, because the log may hold the event by any of them.
	span *trace.Span
}

type jobKind int

const (
	publishing jobKind = iota // store the event in the log
	resolving                 // find the orchestrator of the event's daemon
	addressing                // find the orchestrator that the event's addressee means
	keeping                   // store the event among those that wait for that
	burying                   // store the message in the dead letters
)

// decode says what is to be done with a message.
func decode(h heard, maxBytes int) job {
	j := decodeHeard(h, maxBytes)
	j.channel = h.channel
	return j
}

func decodeHeard(h heard, maxBytes int) job {
	e, err := event.ParseInPlace(h.body, maxBytes)
	if err != nil {
		return buryInvalid(h.body, err)
	}
	if canary.IsChannel(h.channel) {
		return job{kind: publishing, event: e, body: h.body}
	}
	daemon, ok := daemonOfChannel(h.channel)
	if !ok {
		return publishUser(e, h.body)
	}
	return decodeForDaemon(e, daemon, h.body, maxBytes)
}

// decodeListed says what is to be done with an element of a list. Neolith's HTTP
// route names lists after the orchestrator, and its events are right; the message
// router names them after the daemon, but its queues after the orchestrator. An
// element may have no orchestrator at all: then the list's name says whose it is.
func decodeListed(l list, body []byte, maxBytes int) job {
	if !utf8.ValidString(l.name) {
		// Written into an event it would be somebody else's.
		return buryInvalid(body, errors.New("the name of the list is not valid UTF-8"))
	}
	if text, ok := queued(l, body); ok {
		e, err := event.ParseInPlace(text, maxBytes)
		if err != nil {
			return buryInvalid(body, err)
		}
		return publishUser(e, text)
	}
	e, err := event.ParseInPlace(body, maxBytes)
	pending := err != nil && e.OrchestratorID == ""
	if pending {
		e, body, err = named(l.name, body, maxBytes)
	}
	switch {
	case err != nil:
		return buryInvalid(body, err)
	case string(e.OrchestratorID) == l.name && !pending:
		return publishUser(e, body)
	case l.prefix == queuePrefix:
		return readdress(e, protocol.OrchestratorID(l.name), body, maxBytes)
	case !pending || e.DaemonID != "":
		return decodeForDaemon(e, protocol.DaemonID(l.name), body, maxBytes)
	}
	if _, ok := orchestratorInDaemonID(protocol.DaemonID(l.name)); ok {
		return decodeForDaemon(e, protocol.DaemonID(l.name), body, maxBytes)
	}
	return job{kind: resolving, event: e, body: body, list: protocol.DaemonID(l.name)}
}

// queued is an element of the queue of Neolith's router as its code puts it there:
// a message, of which the router itself would make an event later. It becomes the
// event that the router would have published, under an id that is the same however
// often it is read.
func queued(l list, body []byte) (text []byte, ok bool) {
	var m struct {
		ID      string          `json:"messageId"`
		Type    json.RawMessage `json:"type"`
		Channel string          `json:"channelId"`
		Author  string          `json:"authorId"`
		Content string          `json:"content"`
		Created string          `json:"createdAt"`
	}
	if l.prefix != queuePrefix || json.Unmarshal(body, &m) != nil || m.ID == "" || m.Type != nil {
		return nil, false
	}
	payload, err := json.Marshal(struct {
		ID      string `json:"messageId"`
		Channel string `json:"channelId"`
		Content string `json:"content"`
		Author  string `json:"authorId"`
		Created string `json:"timestamp"`
	}{m.ID, m.Channel, m.Content, m.Author, m.Created})
	if err != nil {
		return nil, false
	}
	text, err = event.Event{
		ID: "queued_" + m.ID, Type: "message.received", OrchestratorID: protocol.OrchestratorID(l.name), Payload: payload,
		Timestamp: m.Created, ChannelID: m.Channel, RequiresAck: true,
	}.MarshalJSON()
	return text, err == nil
}

// named is an element of a list with the list's name for its orchestrator.
func named(name string, body []byte, maxBytes int) (event.Event, []byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil || len(body) > maxBytes {
		e, err := event.ParseInPlace(body, maxBytes)
		return e, body, err
	}
	var err error
	if fields["orchestratorId"], err = json.Marshal(name); err != nil {
		return event.Event{}, body, err
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return event.Event{}, body, err
	}
	e, err := event.ParseInPlace(text, maxBytes)
	return e, text, err
}

// decodeForDaemon treats an event from a daemon's own channel or list. Its
// orchestratorId may be the id of a channel, so it is never believed.
func decodeForDaemon(e event.Event, daemon protocol.DaemonID, body []byte, maxBytes int) job {
	if e.DaemonID == "" {
		if err := daemon.Validate(); err != nil {
			return job{kind: burying, event: e, body: body, reason: event.ReasonInvalidField, detail: "name of the channel or list: " + err.Error()}
		}
		e.DaemonID = daemon
	}
	orchestrator, ok := orchestratorInDaemonID(e.DaemonID)
	if !ok {
		return job{kind: resolving, event: e, body: body}
	}
	return readdress(e, orchestrator, body, maxBytes)
}

// readdress puts the right orchestrator into an event. The body is written
// again only if something in it was wrong, and its payload stays as it is.
func readdress(e event.Event, orchestrator protocol.OrchestratorID, body []byte, maxBytes int) job {
	e.OrchestratorID = orchestrator
	leftOut := e.LeftOut
	fixed, err := e.MarshalJSON()
	if err == nil {
		// Whatever reads the log must find the event as good as we say it is.
		e, err = event.ParseInPlace(fixed, maxBytes)
		e.LeftOut = leftOut
	}
	if err != nil {
		return buryInvalid(body, err)
	}
	return publishUser(e, fixed)
}

// publishUser says that an event is to be stored, unless it would pass for a
// canary.
func publishUser(e event.Event, body []byte) job {
	if e.OrchestratorID.Reserved() {
		return job{
			kind: burying, event: e, body: body, reason: event.ReasonInvalidField,
			detail: fmt.Sprintf("field \"orchestratorId\": %q is reserved for the gateway's canaries", e.OrchestratorID),
		}
	}
	return job{kind: publishing, event: e, body: body}
}

func buryInvalid(body []byte, err error) job {
	j := job{kind: burying, body: body, reason: event.ReasonInvalidField, detail: err.Error()}
	var invalid *event.InvalidError
	if errors.As(err, &invalid) {
		j.reason, j.event = invalid.Reason, invalid.Event
	}
	return j
}

// daemon is whose orchestrator is to be found.
func (j job) daemon() protocol.DaemonID {
	if j.list != "" {
		return j.list
	}
	return j.event.DaemonID
}

// bury turns a job into one for the dead letters.
func (j job) bury(reason event.Reason, detail string) job {
	j.kind, j.reason, j.detail = burying, reason, detail
	return j
}

// letter is the dead letter of a job to bury.
func (j job) letter() eventlog.DeadLetter {
	letter := eventlog.DeadLetter{Reason: j.reason, EventID: j.event.ID, Detail: j.detail, Body: j.body}
	if j.reason == event.ReasonUnresolvedDaemon {
		// What stands there for an orchestrator is not to be believed, and the daemon
		// may stand in the name of the channel alone.
		letter.Daemon = j.event.DaemonID
	} else {
		letter.Token = event.TokenOf(j.event.OrchestratorID)
	}
	return letter
}

// lane names the sequence in which the job stands. Dead letters have no order,
// so each has a lane of its own, told apart by number.
func (j job) lane(number uint64) string {
	switch j.kind {
	case publishing:
		return publishLane + string(event.TokenOf(j.event.OrchestratorID))
	case addressing:
		return addressLane + string(j.event.OrchestratorID)
	case keeping:
		return "u/" + string(j.event.OrchestratorID)
	case resolving:
		return "d/" + string(j.daemon())
	default:
		return fmt.Sprintf("x/%d", number)
	}
}

// publishLane begins the names of the lanes of events that go into the log.
const publishLane = "o/"

// addressLane begins the names of the lanes in which events wait to be given
// their orchestrator. They are free of the window: PostgreSQL may take its time,
// and events whose orchestrator is remembered pass through them as well.
const addressLane = "a/"

func isAddressLane(lane string) bool { return strings.HasPrefix(lane, addressLane) }

// The channels of the existing backend: daemon:events and
// daemon:events:<organization> carry whole events, daemon:<daemon>:events those
// of the message router. The first form wins where both fit: Redis matches
// daemon:*:events also against daemon:events:events, the channel of an
// organization that is called "events" or ends in ":events".
const (
	eventsChannel       = "daemon:events"
	daemonChannelPrefix = "daemon:"
	daemonChannelSuffix = ":events"
	// heartbeatsPrefix is of the channels on which bridges themselves publish.
	heartbeatsPrefix = "daemon:heartbeats:"
)

func isHeartbeats(channel string) bool { return strings.HasPrefix(channel, heartbeatsPrefix) }

func daemonOfChannel(channel string) (protocol.DaemonID, bool) {
	if channel == eventsChannel || strings.HasPrefix(channel, eventsChannel+":") {
		return "", false
	}
	rest, ok := strings.CutPrefix(channel, daemonChannelPrefix)
	if !ok {
		return "", false
	}
	id, ok := strings.CutSuffix(rest, daemonChannelSuffix)
	return protocol.DaemonID(id), ok && id != ""
}

const loginDaemonPrefix = "daemon_session_"

// orchestratorInDaemonID reads the orchestrator from a daemon id in the form
// that Neolith's login gives out: daemon_session_<orchestratorId>_<ms>.
func orchestratorInDaemonID(id protocol.DaemonID) (protocol.OrchestratorID, bool) {
	rest, ok := strings.CutPrefix(string(id), loginDaemonPrefix)
	if !ok {
		return "", false
	}
	cut := strings.LastIndexByte(rest, '_')
	if cut <= 0 || cut == len(rest)-1 || strings.Trim(rest[cut+1:], "0123456789") != "" {
		return "", false
	}
	return protocol.OrchestratorID(rest[:cut]), true
}
