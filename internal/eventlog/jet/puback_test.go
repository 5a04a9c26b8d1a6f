package jet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var pubAnswers = []string{
	`{"stream":"DAEMON_EVENTS_3","seq":12}`, `{"stream":"DAEMON_EVENTS_3","seq":12,"duplicate": true}`,
	`{"stream":"S","seq":12,"duplicate":true}`, `{"stream":"S","domain":"hub","seq":12}`, `{"stream":"S", "seq":12}`, ` {"stream":"S","seq":12} `,
	`{"stream":"S","seq":0}`, `{"stream":"S","seq":012}`, `{"stream":"S","seq":}`, `{"stream":"S","seq":1.0}`, `{"stream":"S","seq":-1}`,
	`{"stream":"S","seq":999999999999999999}`, `{"stream":"S","seq":18446744073709551616}`, `{"stream":"S","seq":12}}`, `{"stream":"S","seq":12`,
	`{"stream":"","seq":12}`, `{"stream":"\u0053","seq":12}`, "{\"stream\":\"\xff\",\"seq\":12}", `{"stream":"S","seq":12,"seq":13}`,
	`{"stream":"S","error":{"code":503},"seq":12}`, `{"error":{"code":503,"err_code":10077,"description":"x"}}`, `{"seq":12}`, "null", "{}", "[]", "",
}

func requireSameAnswer(t *testing.T, data []byte) {
	t.Helper()
	want, wantErr := parsePubAnswer(data)
	got, err := readPubAnswer(data)
	require.Equal(t, wantErr, err)
	require.Equal(t, want, got)
}

func TestAnswersToPublishes(t *testing.T) {
	t.Parallel()
	for i, text := range pubAnswers {
		_, plain := plainPubAck([]byte(text))
		require.Equal(t, i < 2 || text == `{"stream":"S","seq":999999999999999999}`, plain, text)
		requireSameAnswer(t, []byte(text))
	}
	ack, err := readPubAnswer([]byte(pubAnswers[1]))
	require.NoError(t, err)
	require.Equal(t, []any{"DAEMON_EVENTS_3", uint64(12), true}, []any{ack.Stream, ack.Sequence, ack.Duplicate})
}

func FuzzPlainAnswersAreReadAlike(f *testing.F) {
	for _, text := range pubAnswers {
		f.Add([]byte(text))
	}
	f.Fuzz(requireSameAnswer)
}

func BenchmarkReadPubAnswer(b *testing.B) {
	for name, read := range map[string]func([]byte) error{
		"encoding_json": func(data []byte) error { _, err := parsePubAnswer(data); return err },
		"plain":         func(data []byte) error { _, err := readPubAnswer(data); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read([]byte(pubAnswers[0])); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
