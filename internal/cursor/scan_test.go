package cursor

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/budget"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// usual is the record of an orchestrator with daemons that work.
func usual(daemons int) Record {
	rec := recordOf(map[protocol.DaemonID]Entry{})
	for i := range daemons {
		rec.Daemons[protocol.DaemonID(fmt.Sprintf("6f9619ff-8b86-d011-b42d-00cf4fc964f%d", i))] = Entry{
			Generation: 1790000000123, Edge: "edge-1-18a6f0c2d3e4b5f6", Floor: 123456, Settled: []Range{{123458, 123460}}, Sent: 123461, Written: now,
			Subscriptions: []protocol.Subscription{{Pattern: "mention.*"}, {Pattern: "message.received"}, {Pattern: "task.*"}},
		}
	}
	return rec
}

func usualText(t testing.TB, daemons int) []byte {
	t.Helper()
	data, err := usual(daemons).Encode()
	require.NoError(t, err)
	return data
}

// full has all that a record may have.
const full = `{"v":1,"e":"x.1","d":{"":{"f":0,"l":true,"w":17},"d":{"g":4,"h":"edge-1","f":9,"r":[11,12,20,20],"u":10,` +
	`"s":[{"t":"a.*"},{"t":"b.x","c":["1","ü"]}],"a":["c","e"],"q":10,"t":1790000000123456789,"n":3,"x":20,"l":false,"w":1790000000000}},"p":{"new":[7,5],"":[0,1]},"o":{"c":3}}`

// What the scanner leaves to encoding/json is read as well as anything else; that
// usual records are not left to it is what makes saving quick.
func TestUsualRecordsAreScanned(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"one daemon":                    string(usualText(t, 1)),
		"several":                       string(usualText(t, 5)),
		"all fields":                    full,
		"no daemons":                    `{"v":1,"e":""}`,
		"spaces, and another order":     "\n{ \"d\" : { \"d\" :\t{ \"w\":1, \"r\" : [ 1 ,\r\n 2 ], \"f\":3 } } , \"v\" : 1 } ",
		"the largest numbers":           `{"v":1,"d":{"d":{"f":9999999999999999999,"w":9223372036854775807,"n":2147483647}}}`,
		"ranges that are in no form":    `{"v":1,"d":{"d":{"f":5,"r":[9,3,20,30,6,7,21,40]}}}`,
		"the release before had no g,h": `{"v":1,"e":"x","d":{"left":{"f":3,"l":true,"w":1},"there":{"f":4,"a":["old"],"w":1}}}`,
	} {
		_, ok := scan([]byte(text))
		require.True(t, ok, name)
		requireSameRecord(t, []byte(text))
	}
}

func TestUnusualRecordsAreLeftToReflection(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a field that is not known":     `{"v":1,"z":[]}`,
		"one in capital letters":        `{"v":1,"E":"x"}`,
		"a field twice":                 `{"v":1,"e":"x","e":"y"}`,
		"a daemon twice":                `{"v":1,"d":{"a":{"f":1},"a":{"g":2}}}`,
		"null":                          `{"v":1,"d":null,"p":{"a":null},"o":null}`,
		"an escape in a text":           `{"v":1,"e":"\u0078"}`,
		"an escape in an id":            `{"v":1,"d":{"\u0078":{}}}`,
		"a list of the awaited, short":  `{"v":1,"p":{"a":[1]}}`,
		"a list of the awaited, long":   `{"v":1,"p":{"a":[1,2,3]}}`,
		"a negative number":             `{"v":1,"d":{"a":{"w":-1}},"p":{"a":[-1,-1]}}`,
		"a number of many digits":       `{"v":1,"d":{"a":{"f":10000000000000000000}}}`,
		"empty lists":                   `{"v":1,"d":{"a":{"r":[],"s":[{"t":"a.b","c":[]}],"a":[]}}}`,
		"empty objects":                 `{"v":1,"d":{},"p":{},"o":{}}`,
		"what is not valid UTF-8":       "{\"v\":1,\"e\":\"\xff\"}",
		"nothing, for a daemon's entry": `{"v":1,"d":{"a":null}}`,
	} {
		_, err := Decode([]byte(text))
		require.NoError(t, err, name)
		_, ok := scan([]byte(text))
		require.False(t, ok, name)
		requireSameRecord(t, []byte(text))
	}
}

// requireSameRecord holds that it makes no difference who reads a record, nor who
// writes it.
func requireSameRecord(t *testing.T, data []byte) {
	t.Helper()
	want, wantErr := unmarshal(data)
	got, ok := scan(data)
	if wantErr != nil {
		require.False(t, ok, "the scanner takes what is refused: %q", data)
		return
	}
	if ok {
		require.Equal(t, want, got, "%q", data)
	}
	text, err := want.marshal()
	require.NoError(t, err)
	if appended, ok := want.appendTo(nil); ok {
		require.Equal(t, string(text), string(appended))
	}
}

func FuzzRecordsAreReadAndWrittenAlike(f *testing.F) {
	f.Add(usualText(f, 2))
	f.Add([]byte(full))
	f.Add([]byte(`{"v":1,"e":"x","d":{"<":{"f":3,"l":true,"w":1,"s":[{"t":"é"}]}},"o":{"c":18446744073709551615}}`))
	f.Add([]byte(`{"v":2,"e":"x","d":null}`))
	f.Fuzz(requireSameRecord)
}

// The fuzz test's law, on texts that are nearly records: few that a fuzzer makes
// up are.
func TestRandomRecordsAreReadAndWrittenAlike(t *testing.T) {
	t.Parallel()
	odd := []string{
		"null", "true", "false", "0", "1", "-1", "7", "1.0", "1e3", "99999999999999999999", "9999999999999999999", "18446744073709551615",
		`""`, `"x"`, `"\u0078"`, `"ü"`, `"<"`, "{}", "[]", `[1,2]`, `[1,2,3]`, `{"a":1}`, `{"f":1}`, `[{"t":"a.b"}]`, `{"a":[1,2]}`, `["x"]`,
	}
	const bytes = "\"\\{}[],:.-+0123eEntvedpoghfrusaqnxlw \x00\x1f\x7f\xff\xc3"
	scanned, valid, runs := 0, 0, budget.Runs(5_000, 200_000)
	for range runs {
		text := []string{full, string(usualText(t, 1+rand.IntN(2)))}[rand.IntN(2)]
		if rand.IntN(2) == 0 { // another value, of whatever it is
			at := strings.Index(text[rand.IntN(len(text)):], ":") + 1
			at += strings.Index(text[at:], ":") + 1
			if end := strings.IndexAny(text[at:], ",}"); end >= 0 {
				text = text[:at] + odd[rand.IntN(len(odd))] + text[at+end:]
			}
		}
		data, at := []byte(text), rand.IntN(len(text))
		switch rand.IntN(6) {
		case 0:
			data[at] = bytes[rand.IntN(len(bytes))]
		case 1:
			data = append(data[:at], data[at+1:]...)
		case 2:
			data = append(data[:at], append([]byte{bytes[rand.IntN(len(bytes))]}, data[at:]...)...)
		}
		requireSameRecord(t, data)
		if _, ok := scan(data); ok {
			scanned++
		}
		if _, err := unmarshal(data); err == nil {
			valid++
		}
	}
	require.Greater(t, scanned, runs/10)
	require.Greater(t, valid, scanned)
	require.Less(t, valid, runs*95/100)
}

// By reflection it is 30 and 9. How many a map takes depends on chance and on the
// race detector, so the limits have room.
func TestReadingAndWritingAUsualRecordAllocatesLittle(t *testing.T) {
	rec, text := usual(1), usualText(t, 1)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = scan(text) }), 20.0)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = rec.Encode() }), 6.0)
}

func BenchmarkCodec(b *testing.B) {
	for _, daemons := range []int{1, 5} {
		rec, text := usual(daemons), usualText(b, daemons)
		for _, bench := range []struct {
			name string
			do   func()
		}{
			{"read/encoding_json", func() { _, _ = unmarshal(text) }},
			{"read/scanned", func() { _, _ = Decode(text) }},
			{"write/encoding_json", func() { _, _ = rec.marshal() }},
			{"write/appended", func() { _, _ = rec.Encode() }},
		} {
			b.Run(fmt.Sprintf("daemons=%d/%s", daemons, bench.name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					bench.do()
				}
			})
		}
	}
}
