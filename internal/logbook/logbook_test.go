package logbook_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/logbook"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// open returns a book over a logger of a level, and what was written.
func open(t *testing.T, level slog.Level) (*logbook.Book, *slog.Logger, func() []string) {
	t.Helper()
	var out strings.Builder
	book, logger := logbook.Open(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level})))
	t.Cleanup(book.Close)
	return book, logger, func() []string { return messages(t, strings.Split(strings.TrimSpace(out.String()), "\n")) }
}

func messages(t *testing.T, lines []string) (all []string) {
	t.Helper()
	for _, line := range lines {
		var m struct{ Msg string }
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		all = append(all, m.Msg)
	}
	return all
}

func ask(t *testing.T, r logbook.Request) logbook.Change {
	t.Helper()
	c, err := r.Change(time.Now())
	require.NoError(t, err)
	return c
}

func TestALevelGoesBackByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, logger, written := open(t, slog.LevelInfo)
		logger.Debug("before")
		book.Set(ask(t, logbook.Request{Level: "debug", For: "1m"}))
		logger.Debug("meanwhile")
		require.Len(t, book.Changes(), 1)
		<-time.After(time.Minute)
		synctest.Wait()
		logger.Debug("after")
		require.Equal(t, []string{"meanwhile", "log level is as before"}, written())
		require.Empty(t, book.Changes())
	})
}

func TestALaterChangeOfTheSameTakesThePlaceOfTheEarlier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, logger, written := open(t, slog.LevelInfo)
		book.Set(ask(t, logbook.Request{Level: "debug", For: "1m"}))
		book.Set(ask(t, logbook.Request{Level: "warn", For: "10m"}))
		<-time.After(2 * time.Minute)
		logger.Info("left out")
		logger.Warn("written")
		require.Equal(t, []string{"written"}, written())
		require.True(t, book.Reset(logbook.Target{}))
		require.False(t, book.Reset(logbook.Target{}))
		logger.Info("as configured")
		require.Equal(t, []string{"written", "as configured"}, written())
	})
}

// What others do in a busy gateway would bury what is looked for.
func TestALevelForOneIsForNobodyElse(t *testing.T) {
	t.Parallel()
	book, logger, written := open(t, slog.LevelInfo)
	book.Set(ask(t, logbook.Request{Level: "debug", Target: logbook.Target{Orchestrator: "a/b"}}))
	book.Set(ask(t, logbook.Request{Level: "debug", Target: logbook.Target{Daemon: "d-1"}}))
	logger.Debug("by id", "orchestrator", protocol.OrchestratorID("a/b"))
	logger.With("orchestrator", "a=2Fb").Debug("by token, of a part of the node")
	logger.Debug("by daemon", "orchestrator", "other", "daemon", "d-1")
	logger.Debug("other", "orchestrator", "other", "daemon", "d-2")
	logger.Debug("nobody")
	logger.Info("as ever", "orchestrator", "other")
	require.Equal(t, []string{"by id", "by token, of a part of the node", "by daemon", "as ever"}, written())
}

// Somebody who may change levels must not be able to act unseen.
func TestNoChangeKeepsTheAuditLogOut(t *testing.T) {
	t.Parallel()
	book, logger, written := open(t, slog.LevelInfo)
	book.Set(ask(t, logbook.Request{Level: "error"}))
	logger.With("component", "audit").Info("audit")
	logger.With("component", "edge").Info("edge")
	require.Equal(t, []string{"audit"}, written())
}

func TestTheLastLinesAreKeptInBounds(t *testing.T) {
	t.Parallel()
	book, logger, _ := open(t, slog.LevelInfo)
	for i := range 1500 {
		logger.Info(fmt.Sprint(i), "took", 1500*time.Millisecond)
	}
	kept := messages(t, book.Lines())
	require.Len(t, kept, 1000)
	require.Equal(t, "1499", kept[999])
	require.Contains(t, book.Lines()[0], `"took":"1.5s"`)
	for range 10 {
		logger.Info("long", "text", strings.Repeat("x", 100<<10))
	}
	require.Less(t, len(strings.Join(book.Lines(), "")), 256<<10)
	require.NotEmpty(t, book.Lines())
}

// A line below the configured level is given to handlers that would not have let
// it come: each that a program may have must write it.
func TestEachFormOfTheLogWritesWhatAChangeAdds(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"json", "text", ""} {
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		require.NoError(t, err)
		book, logger := logbook.Open(settings.Logging{LogLevel: slog.LevelWarn, LogFormat: form}.Logger(file))
		book.Set(ask(t, logbook.Request{Level: "debug"}))
		logger.Debug("detail")
		book.Close()
		_, err = file.Seek(0, io.SeekStart)
		require.NoError(t, err)
		text, err := io.ReadAll(file)
		require.NoError(t, err)
		require.Contains(t, string(text), "detail", form)
		require.NoError(t, file.Close())
	}
}

func TestARequestThatIsWrongSaysHow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request logbook.Request
		want    []string
	}{
		"no level":       {logbook.Request{}, []string{`level: got ""`, "debug, info, warn, error"}},
		"unknown level":  {logbook.Request{Level: "loud"}, []string{`level: got "loud"`}},
		"a number":       {logbook.Request{Level: "info+2"}, []string{`level: got "info+2"`}},
		"no duration":    {logbook.Request{Level: "debug", For: "ten"}, []string{`for: got "ten"`, "such as 10m"}},
		"negative":       {logbook.Request{Level: "debug", For: "-1m"}, []string{`for: got "-1m"`}},
		"too long":       {logbook.Request{Level: "debug", For: "25h"}, []string{"to 24h"}},
		"both":           {logbook.Request{Level: "x", For: "y"}, []string{"level:", "for:"}},
		"a long id":      {logbook.Request{Level: "debug", Target: logbook.Target{Daemon: strings.Repeat("x", 300)}}, []string{"daemon: longer than 256 bytes"}},
		"a long mistake": {logbook.Request{Level: strings.Repeat("x", 5000)}, []string{strings.Repeat("x", 40) + `"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.request.Change(time.Now())
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}
