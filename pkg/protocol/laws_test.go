package protocol_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// complete holds one message of every type with every field.
var complete = map[protocol.MessageType]string{
	protocol.TypeAuth:        `{"accessToken":"t","daemonId":"d","orchestratorId":"o","resume":{"position":"p"}}`,
	protocol.TypeHeartbeat:   `{"status":"idle","metrics":{"errors":3},"inProgress":["e"]}`,
	protocol.TypeSubscribe:   `{"eventTypes":["call.*"],"channelIds":["c"]}`,
	protocol.TypeUnsubscribe: `{"eventTypes":["call.*"]}`,
	protocol.TypeAck:         `{"eventIds":["e"]}`,
}

// optional are the fields that may be missing or null.
var optional = map[string]bool{
	"payload.resume": true, "payload.resume.position": true, "payload.status": true, "payload.metrics": true,
	"payload.metrics.errors": true, "payload.inProgress": true, "payload.channelIds": true,
}

func completeMessage(t *testing.T, kind protocol.MessageType) map[string]any {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(message(string(kind), complete[kind])), &m))
	return m
}

// eachField calls f with every field at and below object: its path, and a
// function that sets it, or removes it when the value is `remove`.
func eachField(object map[string]any, path string, f func(field string, set func(value any))) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		old := object[name]
		f(path+name, func(value any) {
			if object[name] = value; value == remove {
				delete(object, name)
			}
		})
		object[name] = old
		if inner, ok := old.(map[string]any); ok {
			eachField(inner, path+name+".", f)
		}
	}
}

var remove = &struct{ _ byte }{}

func TestEveryFieldIsNeededUnlessOptionalAndOfItsKind(t *testing.T) {
	t.Parallel()
	values := map[string]any{
		"missing": remove, "null": nil, "number": 7, "flag": true, "text": "?", "list": []any{[]any{}}, "object": map[string]any{"?": []any{}},
	}
	for kind := range complete {
		whole := completeMessage(t, kind)
		eachField(whole, "", func(field string, set func(any)) {
			for name, value := range values {
				if !wrong(field, name) || strings.HasPrefix(field, "payload.resume") || kind == protocol.TypeHeartbeat && strings.HasPrefix(field, "payload") {
					continue
				}
				set(value)
				text, err := json.Marshal(whole)
				require.NoError(t, err)
				m, fault := protocol.ParseClientMessage(text)
				require.NotNil(t, fault, "%s", text)
				require.Nil(t, m.Payload, "%s", text)
				require.True(t, strings.HasPrefix(fault.Field, field), "%s: %q", text, fault.Field)
			}
		})
		_, fault := protocol.ParseClientMessage([]byte(message(string(kind), complete[kind])))
		require.Nil(t, fault)
	}
}

// Law: a heartbeat counts, whatever stands in its payload.
func TestAHeartbeatCountsWhateverItSays(t *testing.T) {
	t.Parallel()
	whole := completeMessage(t, protocol.TypeHeartbeat)
	eachField(whole, "", func(field string, set func(any)) {
		if !strings.HasPrefix(field, "payload") {
			return
		}
		for _, value := range []any{remove, nil, 7, true, "?", []any{[]any{}}, map[string]any{"?": []any{}}} {
			set(value)
			text, err := json.Marshal(whole)
			require.NoError(t, err)
			m, fault := protocol.ParseClientMessage(text)
			require.IsType(t, protocol.Heartbeat{}, m.Payload, "%s", text)
			require.True(t, fault == nil || len(fault.LeftOut) > 0, "%s", text)
		}
	})
}

// wrong tells whether a value of that kind does not belong in the field.
func wrong(field, kind string) bool {
	switch {
	case kind == "missing" || kind == "null":
		// Without a payload the fault lies with what it should hold.
		return !optional[field] && field != "payload"
	case kind == "text":
		// These take any text.
		return field != "id" && field != "payload.accessToken" && field != "payload.daemonId" && field != "payload.orchestratorId"
	case kind == "object":
		return field != "payload" // unknown fields
	}
	return true
}

func TestOptionalFieldsMayBeMissingOrNull(t *testing.T) {
	t.Parallel()
	for kind := range complete {
		for _, value := range []any{remove, nil} {
			eachField(completeMessage(t, kind), "", func(field string, _ func(any)) {
				if !optional[field] {
					return
				}
				whole := completeMessage(t, kind)
				eachField(whole, "", func(other string, set func(any)) {
					if other != field {
						return
					}
					set(value)
					text, err := json.Marshal(whole)
					require.NoError(t, err)
					_, fault := protocol.ParseClientMessage(text)
					require.Nil(t, fault, "%s", text)
				})
			})
		}
	}
}

func TestDeepNestingIsRefusedOrIgnoredButHarmless(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{100, 20_000} {
		deep := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		for _, text := range []string{
			deep, message("ack", deep), message("ack", `{"eventIds":`+deep+`}`), message("ack", `{"eventIds":[`+deep+`]}`),
			message("heartbeat", `{"metrics":`+deep+`}`), strings.Repeat(`{"payload":`, depth),
		} {
			_, fault := protocol.ParseClientMessage([]byte(text))
			require.NotNil(t, fault)
			require.Less(t, len(fault.Error()), 200)
		}
	}
	shallow := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	m, fault := protocol.ParseClientMessage([]byte(message("ack", `{"eventIds":["e"],"unknown":`+shallow+`}`)))
	require.Nil(t, fault)
	require.Equal(t, protocol.Ack{EventIDs: []string{"e"}}, m.Payload)
}

func TestOfAFieldGivenTwiceTheLastCounts(t *testing.T) {
	t.Parallel()
	m, fault := protocol.ParseClientMessage([]byte(message("ack", `{"eventIds":["a"],"eventIds":["b"]}`)))
	require.Nil(t, fault)
	require.Equal(t, protocol.Ack{EventIDs: []string{"b"}}, m.Payload)
}

func TestResumeWithoutAPositionAsksForNothing(t *testing.T) {
	t.Parallel()
	for _, resume := range []string{`null`, `{}`, `{"position":null}`, `{"position":""}`} {
		m, fault := protocol.ParseClientMessage([]byte(message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":"o","resume":`+resume+`}`)))
		require.Nil(t, fault, resume)
		require.Nil(t, m.Payload.(protocol.Auth).Resume, resume)
	}
}

// world draws from few names, so that they often meet.
type world struct{ *rand.Rand }

func (w world) word() string { return []string{"a", "ab", "b", "b-c"}[w.IntN(4)] }

func (w world) eventType() protocol.EventType {
	return protocol.EventType(w.word() + "." + w.word())
}

func (w world) pattern() protocol.Pattern {
	switch w.IntN(5) {
	case 0:
		return protocol.AllEvents
	case 1, 2:
		return protocol.Pattern(w.word() + ".*")
	}
	return protocol.Pattern(w.eventType())
}

func (w world) channels() (out []string) {
	for _, c := range []string{"c1", "c2", "c3"} {
		if w.IntN(2) == 0 {
			out = append(out, c)
		}
	}
	return out
}

func (w world) subscription() protocol.Subscription {
	return protocol.Subscription{Pattern: w.pattern(), Channels: w.channels()}
}

// Law: p covers q if and only if whatever passes q passes p. The types and
// channels of the world stand for all: it has some that no pattern names.
func TestCoversMeansThatWhateverPassesOnePassesTheOther(t *testing.T) {
	t.Parallel()
	w := world{rand.New(rand.NewPCG(1, 2))}
	var types []protocol.EventType
	for _, prefix := range []string{"a", "ab", "b", "b-c", "other"} {
		for _, name := range []string{"a", "ab", "b", "b-c", "other"} {
			types = append(types, protocol.EventType(prefix+"."+name))
		}
	}
	met := 0
	for range 20_000 {
		p, q := w.subscription(), w.subscription()
		implied := true
		for _, kind := range types {
			for _, channel := range []string{"", "c1", "c2", "c3", "other"} {
				implied = implied && (!q.Matches(kind, channel) || p.Matches(kind, channel))
			}
		}
		require.Equal(t, implied, p.Covers(q), "%v covers %v", p, q)
		if implied {
			met++
		}
		require.True(t, p.Covers(p))
		require.NoError(t, p.Pattern.Validate())
	}
	require.Greater(t, met, 1000)
}

func FuzzPatternsAndTypes(f *testing.F) {
	f.Add("message.*", "message.received")
	f.Add("*", "*")
	f.Add("a.*b", "a.")
	f.Fuzz(func(t *testing.T, p, s string) {
		pattern, kind := protocol.Pattern(p), protocol.EventType(s)
		valid := kind.Validate() == nil
		if valid && pattern.Validate() == nil && pattern.Matches(kind) {
			require.True(t, pattern == protocol.AllEvents || p == s || p == kind.Prefix()+".*", fmt.Sprintf("%q %q", p, s))
		}
		if valid {
			require.True(t, protocol.Pattern(kind.Prefix()+".*").Matches(kind))
			require.True(t, protocol.AllEvents.Matches(kind))
			require.NoError(t, protocol.Pattern(kind).Validate())
		}
	})
}
