package ring

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// logWriter carries memberlist's log lines over to slog. Its errors are about
// one packet or one peer, which the gossip makes good for, so none is more than
// a warning; and a stranger who sends us packets must not fill the log.
type logWriter struct {
	logger *slog.Logger
	limit  *rate.Limiter
	ended  atomic.Bool // this node leaves: what fails now was to be expected

	mu         sync.Mutex
	suppressed int // guarded by mu
}

// The pace of memberlist's lines at which they are suppressed.
const (
	logLinesPerSecond = 5
	logLinesBurst     = 50
)

func newLogWriter(logger *slog.Logger) *logWriter {
	return &logWriter{logger: logger, limit: rate.NewLimiter(logLinesPerSecond, logLinesBurst)}
}

func newGossipLog(w *logWriter) *log.Logger { return log.New(w, "", 0) }

var logLevels = []struct {
	prefix string
	level  slog.Level
}{
	{"[DEBUG] ", slog.LevelDebug}, {"[INFO] ", slog.LevelInfo}, {"[WARN] ", slog.LevelWarn},
	{"[ERR] ", slog.LevelWarn}, {"[ERROR] ", slog.LevelWarn},
}

// Write implements io.Writer for one line.
func (w *logWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelWarn, bytes.TrimSpace(line)
	for _, l := range logLevels {
		if rest, ok := bytes.CutPrefix(text, []byte(l.prefix)); ok {
			level, text = l.level, rest
			break
		}
	}
	if w.ended.Load() {
		level = slog.LevelDebug
	}
	if !w.logger.Enabled(context.Background(), level) {
		return len(line), nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.limit.Allow() {
		w.suppressed++
		return len(line), nil
	}
	attrs := []slog.Attr{slog.String("line", string(bytes.TrimPrefix(text, []byte("memberlist: "))))}
	if w.suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", w.suppressed))
		w.suppressed = 0
	}
	w.logger.LogAttrs(context.Background(), level, "gossip", attrs...)
	return len(line), nil
}
