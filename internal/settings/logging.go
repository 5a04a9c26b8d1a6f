package settings

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
)

// Logging is the part of a configuration that every program has.
type Logging struct {
	LogLevel  slog.Level `help:"Least severe level that is logged." default:"info" group:"Logging"`
	LogFormat string     `help:"Form of log lines; unset: text on a terminal, else json." default:"" enum:"json,text" group:"Logging"`
}

// Logger returns a logger that writes to out, which is os.Stderr except in
// tests. The caller adds the attributes of its process with With.
func (l Logging) Logger(out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.LogLevel, ReplaceAttr: Readable}
	switch {
	case l.LogFormat != "json" && isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb":
		return slog.New(tint.NewTextHandler(out, &tint.Options{Level: l.LogLevel, ReplaceAttr: Readable, TimeFormat: time.TimeOnly}))
	case l.LogFormat == "text" || l.LogFormat == "" && isTerminal(out):
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}

// Readable writes durations as 1.5s: JSON would have nanoseconds, and text all of
// their digits.
func Readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	d, unit := a.Value.Duration(), time.Duration(1)
	for unit*1000 <= d.Abs() && unit < time.Second {
		unit *= 10
	}
	a.Value = slog.StringValue(formatDuration(d.Round(unit)))
	return a
}

func isTerminal(out io.Writer) bool {
	f, isFile := out.(*os.File)
	if !isFile {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
