package jet

import (
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

func answerMessage(sequence, previous int) *nats.Msg {
	return &nats.Msg{Header: nats.Header{
		"Nats-Subject":       {"s"},
		"Nats-Sequence":      {strconv.Itoa(sequence)},
		"Nats-Last-Sequence": {strconv.Itoa(previous)},
		"Nats-Num-Pending":   {"0"},
		"Nats-Time-Stamp":    {"2026-11-22T10:00:00.123456789Z"},
	}, Data: []byte("x")}
}

func answerEnd(code, description string, previous int) *nats.Msg {
	return &nats.Msg{Header: nats.Header{
		"Status":             {code},
		"Description":        {description},
		"Nats-Num-Pending":   {"3"},
		"Nats-Last-Sequence": {strconv.Itoa(previous)},
		"Nats-UpTo-Sequence": {"99"},
	}}
}

// TestAnswersInPartAreErrors: an answer that lost a message must not be taken
// for one in which the message does not exist.
func TestAnswersInPartAreErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		messages []*nats.Msg
		want     error
		none     bool
	}{
		"whole":                        {messages: []*nats.Msg{answerMessage(4, 0), answerMessage(9, 4), answerEnd("204", "EOB", 9)}},
		"nothing":                      {messages: []*nats.Msg{answerEnd("404", "No Results", 0)}, none: true},
		"the only one unreadable":      {messages: []*nats.Msg{answerEnd("404", "Message Not Found", 0)}, want: ErrUnavailable},
		"first lost":                   {messages: []*nats.Msg{answerMessage(9, 4)}, want: ErrUnavailable},
		"middle lost":                  {messages: []*nats.Msg{answerMessage(4, 0), answerMessage(11, 9)}, want: ErrUnavailable},
		"last lost":                    {messages: []*nats.Msg{answerMessage(4, 0), answerEnd("204", "EOB", 9)}, want: ErrUnavailable},
		"all lost":                     {messages: []*nats.Msg{answerEnd("204", "EOB", 9)}, want: ErrUnavailable},
		"a message could not be read":  {messages: []*nats.Msg{answerMessage(4, 0), answerEnd("404", "Message Not Found", 0)}, want: ErrUnavailable},
		"too many results":             {messages: []*nats.Msg{answerEnd("413", "Too Many Results", 0)}, want: ErrUnavailable},
		"no replica has direct access": {messages: []*nats.Msg{answerEnd("503", "", 0)}, want: nats.ErrNoResponders},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var (
				collect = collector{nothing: noResults}
				done    bool
				err     error
			)
			for _, m := range c.messages {
				require.False(t, done)
				if done, err = collect.add(m); err != nil {
					break
				}
			}
			require.ErrorIs(t, err, c.want)
			if c.want == nil {
				require.True(t, done)
				require.Equal(t, c.none, collect.answer.none)
			}
			if c.want == nil && !c.none {
				require.Equal(t, []uint64{4, 9}, []uint64{collect.answer.messages[0].Sequence, collect.answer.messages[1].Sequence})
				require.EqualValues(t, 3, collect.answer.pending)
				require.EqualValues(t, 99, collect.answer.upTo)
			}
		})
	}
}
