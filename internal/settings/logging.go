package settings

import (
	"log/slog"
	"os"
)

// Logging is the part of a configuration that every program has.
type Logging struct {
	LogLevel  slog.Level `help:"Least severe level that is logged." default:"info" group:"Logging"`
	LogFormat string     `help:"Form of log lines; unset: text on a terminal, else json." default:"" enum:"json,text" group:"Logging"`
}

// Logger returns a logger that writes to out, which is os.Stderr except in
// tests. The caller adds the attributes of its process with With.
func (l Logging) Logger(out *os.File) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.LogLevel}
	if l.LogFormat == "text" || l.LogFormat == "" && isTerminal(out) {
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
