package compose_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// responses are what a user may publish wherever it was asked in the name of a
// subject (allow_responses), beside what it may publish anyway.
type responses struct {
	max     int
	expires time.Duration
}

// answers says who has such permissions: nobody, but for the time of the change to
// these users the edge, as before it: nodes of earlier releases answer once, at once.
var answers = map[string]map[string]responses{
	shipped:    nil,
	transition: {"edge": {1, time.Minute}},
	before:     {"edge": {1, time.Minute}},
}

func TestWhoMayAnswerWhereverItIsAskedIsWhoIsMeant(t *testing.T) {
	t.Parallel()
	for file, meant := range answers {
		configured, err := server.ProcessConfigFile(filepath.Clean(file))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(configured.Users), 5)
		for _, user := range configured.Users {
			is := responses{}
			if p := user.Permissions; p != nil && p.Response != nil {
				is = responses{p.Response.MaxMsgs, p.Response.Expires}
			}
			require.Equal(t, meant[user.Username], is, "%s in %s", user.Username, file)
		}
	}
}

// What these permissions are for, and what more of them would be: without them an
// edge of an earlier release can give no receipt, so that all its batches are sent
// again; without a limit whoever was asked once may publish there at will, in the
// name of whoever asked, and a question may name any subject.
func TestAnAnswerIsAllowedAsOftenAsIsMeant(t *testing.T) {
	t.Parallel()
	const allowed = `allow_responses: { max: 1, expires: "1m" }`
	const tries = 3
	for name, test := range map[string]struct {
		file, instead string // of what is allowed; empty: as it is
		let           int    // of the edge's answers
	}{
		"as shipped":                       {shipped, "", 0},
		"in the transition":                {transition, "", 1},
		"in the transition, without":       {transition, "# nothing", 0},
		"in the transition, without limit": {transition, `allow_responses: { max: -1, expires: "1m" }`, tries},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := test.file
			if test.instead != "" {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				require.Equal(t, 1, strings.Count(string(text), allowed))
				file = filepath.Join(t.TempDir(), "authorization.conf")
				require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), allowed, test.instead)), 0o600))
			}
			w := newWorld(t, file)
			all, _ := w.client(unlimited)
			for _, user := range restricted {
				if user == "operator" {
					continue // who may do everything in the transition
				}
				let := 0
				if user == "edge" {
					let = test.let
				}
				js, violations := w.client(user)
				const answer, last = "somewhere", "the.last"
				ask(t, all, js, user, answer)
				for range tries {
					require.NoError(t, js.Conn().Publish(answer, nil))
				}
				require.NoError(t, js.Conn().Publish(last, nil))
				require.Equal(t, tries-let, refusedUntil(t, violations, last)[answer], user)
			}
		})
	}
}

// ask has somebody ask a user in the name of each of some subjects, and returns when
// all questions are there.
func ask(t *testing.T, who, user jetstream.JetStream, name string, subjects ...string) {
	t.Helper()
	questions, err := user.Conn().SubscribeSync(inbox(name) + ".>")
	require.NoError(t, err)
	require.NoError(t, user.Conn().FlushTimeout(patience))
	for _, subject := range subjects {
		require.NoError(t, who.Conn().PublishRequest(inbox(name)+".question", subject, nil))
	}
	for range subjects {
		_, err := questions.NextMsg(patience)
		require.NoError(t, err)
	}
	require.NoError(t, questions.Unsubscribe())
}

// refusedUntil returns how often each subject was refused, up to one that nobody may
// publish to.
func refusedUntil(t *testing.T, violations chan error, last string) map[string]int {
	t.Helper()
	refused := map[string]int{}
	for refused[last] == 0 {
		select {
		case err := <-violations:
			found := publishRefused.FindStringSubmatch(err.Error())
			require.NotNil(t, found, err)
			refused[found[1]]++
		case <-time.After(patience):
			require.Fail(t, "the server has not said all")
		}
	}
	return refused
}
