package protocol_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const usualAck = `{"type":"ack","id":"0b9f1a34-5f0e-4d5b-9c55-2f6f3f0c2a11","timestamp":"2026-11-22T10:00:00.000Z","payload":{"eventIds":["event_1732291200000_6f9619ff"]}}`

func ackOf(eventIDs string) string { return message("ack", `{"eventIds":`+eventIDs+`}`) }

func TestUsualAcksAreScanned(t *testing.T) {
	t.Parallel()
	longest := `"` + strings.Repeat("x", protocol.MaxIDBytes) + `"`
	for _, text := range []string{
		usualAck, ackOf(`[ "a" , "ü", "a" ]`), ackOf("[" + longest + "]"),
		ackOf(`["e"` + strings.Repeat(`,"e"`, protocol.MaxAckIDs-1) + `]`),
		message("ack", `{"extra":{},"eventIds":["e"],"EventIds":7}`),
		`{ "payload" : {"eventIds":["e"]}, "x":[1], "timestamp":"2026-11-22 10:00", "id":"i", "type":"ack" }`,
	} {
		require.True(t, protocol.AckScanned([]byte(text)), text)
		requireAckAgreement(t, []byte(text))
	}
}

func TestOtherMessagesAreNotScanned(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "{}", "null", ackOf("[]"), ackOf("null"), ackOf(`{}`), ackOf(`[""]`), ackOf(`[1]`), ackOf(`[null]`), ackOf(`["\u0065"]`), ackOf(`["e"`),
		ackOf(`["` + strings.Repeat("x", protocol.MaxIDBytes+1) + `"]`), ackOf(`["e"` + strings.Repeat(`,"e"`, protocol.MaxAckIDs) + `]`),
		ackOf(`["e"],"eventIds":["f"]`), ackOf(`["e"],"eventId\u0073":["f"]`), ackOf("[\"\xff\"]"), message("ack", `["e"]`), message("ack", "null"),
		strings.Replace(usualAck, `"type":"ack"`, `"type":"ack","type":"auth"`, 1),
		strings.Replace(usualAck, `"type":"ack"`, `"type":"heartbeat"`, 1),
		strings.Replace(usualAck, "2026-11-22", "yesterday", 1),
		strings.Replace(usualAck, `"timestamp"`, `"time"`, 1),
		strings.Replace(usualAck, `"id"`, `"ID"`, 1),
		usualAck + "x",
		message("auth", `{"accessToken":"t","daemonId":"d","orchestratorId":"o"}`),
	} {
		require.False(t, protocol.AckScanned([]byte(text)), text)
		requireAckAgreement(t, []byte(text))
	}
}

func requireAckAgreement(t *testing.T, data []byte) {
	t.Helper()
	want, wantFault := protocol.ParseClientMessageSlowly(data)
	got, fault := protocol.ParseClientMessage(data)
	require.Equal(t, wantFault, fault)
	require.Equal(t, want, got)
}

func FuzzAckScannerAndParserAgree(f *testing.F) {
	f.Add([]byte(usualAck))
	f.Add([]byte(ackOf(`["a","ü\"", 7 ],"eventIds":["b"]`)))
	f.Add([]byte(message("ack", `{"x":[{}],"eventIds":["\u0065"]}`)))
	f.Add([]byte(message("heartbeat", `{"status":7,"metrics":[],"inProgress":["e",7]}`)))
	f.Fuzz(requireAckAgreement)
}

// The id, the list, an id in it, and the payload.
func TestReadingAnAckAllocatesLittle(t *testing.T) {
	data := []byte(usualAck)
	require.Equal(t, 4.0, testing.AllocsPerRun(100, func() {
		_, _ = protocol.ParseClientMessage(data)
	}))
}

func BenchmarkParseAck(b *testing.B) {
	for name, parse := range map[string]func([]byte) (protocol.ClientMessage, *protocol.Fault){
		"encoding_json": protocol.ParseClientMessageSlowly, "ParseClientMessage": protocol.ParseClientMessage,
	} {
		b.Run(name, func(b *testing.B) {
			data := []byte(usualAck)
			b.ReportAllocs()
			for b.Loop() {
				if _, fault := parse(data); fault != nil {
					b.Fatal(fault)
				}
			}
		})
	}
}
