package logbook

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

const (
	// DefaultTime is for how long a change holds where nothing else is said, and
	// LongestTime at most: nobody is to be surprised by a disk full of lines.
	DefaultTime = 10 * time.Minute
	LongestTime = 24 * time.Hour
	// maxName bounds what of an id a request may say.
	maxName = 256
)

// Levels are those that may be asked for.
var Levels = []string{"debug", "info", "warn", "error"}

// Request asks for a change, as a person writes it.
type Request struct {
	Target
	// Level is one of Levels.
	Level string `json:"level"`
	// For is a duration such as 10m, "" DefaultTime.
	For string `json:"for,omitempty"`
}

// Change returns what is asked for, or says what is wrong with it.
func (r Request) Change(now time.Time) (Change, error) {
	var problems []error
	level, err := parseLevel(r.Level)
	if err != nil {
		problems = append(problems, err)
	}
	lasts, err := parseFor(r.For)
	if err != nil {
		problems = append(problems, err)
	}
	for name, value := range map[string]string{"orchestrator": r.Orchestrator, "daemon": r.Daemon} {
		if len(value) > maxName {
			problems = append(problems, fmt.Errorf("%s: longer than %d bytes", name, maxName))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return Change{}, err
	}
	return Change{Target: r.Target, Level: level, Until: now.Add(lasts)}, nil
}

func parseLevel(text string) (level slog.Level, err error) {
	for _, known := range Levels {
		if strings.EqualFold(text, known) {
			return level, level.UnmarshalText([]byte(known))
		}
	}
	return level, fmt.Errorf("level: got %q, expected one of %s", shown(text), strings.Join(Levels, ", "))
}

func parseFor(text string) (time.Duration, error) {
	if text == "" {
		return DefaultTime, nil
	}
	lasts, err := time.ParseDuration(text)
	if err != nil || lasts < time.Second || lasts > LongestTime {
		return 0, fmt.Errorf("for: got %q, expected a duration such as 10m, from 1s to %s", shown(text), "24h")
	}
	return lasts, nil
}

// shown is as much of what was given as an answer repeats.
func shown(text string) string { return strings.ToValidUTF8(text[:min(len(text), 40)], "") }
