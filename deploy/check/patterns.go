package check

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// How the programs read what is neither a number nor one of a few words. One
// pattern is for the form and another, short enough to be read in a message,
// for the smallest value. A pattern cannot add up, so of a duration in several
// parts one alone must reach it; and some values a little below it get through,
// which only the program refuses.
const (
	duration = `([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+`
	range4   = `([0-9]{1,3}\.){3}[0-9]{1,3}/(3[0-2]|[12]?[0-9])`
	range6   = `[0-9a-fA-F:]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[0-9]{1,2})`
	ranges   = `(` + range4 + `|` + range6 + `)`
)

// patterns of single settings.
var patterns = map[string]string{"WS_PATH": `^/[^ ?#{}]*$`}

// written is the schema of a setting that is written in a form of its own.
func written(s Setting) map[string]any {
	least, most := s.Bounds()
	switch s.Type {
	case "duration":
		d, _ := time.ParseDuration(least)
		return inForm(`^`+duration+`$`, enoughTime(d))
	case "duration or ms":
		d, _ := time.ParseDuration(least)
		schema := inForm(`^([0-9]+|`+duration+`)$`, enoughTime(d)+`|^`+atLeast(d.Milliseconds())+`[0-9]*$`)
		schema["type"], schema["minimum"] = []string{"integer", "string"}, d.Milliseconds()
		return schema
	case "bytes":
		schema := inForm(`^[0-9]+ ?([KMGT]i?B)?$`, enoughBytes(size(least)))
		schema["type"], schema["minimum"] = []string{"integer", "string"}, size(least)
		if most != "" {
			schema["maximum"] = size(most)
		}
		return schema
	case "list of CIDR":
		return map[string]any{"pattern": `^( *` + ranges + ` *(, *` + ranges + ` *)*)?$`}
	}
	if pattern := patterns[s.Name]; pattern != "" {
		return map[string]any{"pattern": pattern}
	}
	return nil
}

func inForm(form, enough string) map[string]any {
	schema := map[string]any{"pattern": form}
	if enough != "" {
		schema["allOf"] = []any{map[string]any{"pattern": enough}}
	}
	return schema
}

// enoughTime finds the part of a duration that reaches the smallest one; empty
// if any does.
func enoughTime(least time.Duration) string {
	if least == 0 {
		return ""
	}
	var longer string
	var parts []string
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if unit.size > least {
			longer += unit.name
		} else {
			parts = append(parts, atLeast(int64(least/unit.size))+`[0-9.]*`+unit.name)
		}
	}
	if longer != "" {
		parts = append(parts, `[0-9.]*[1-9][0-9.]*[`+longer+`]`)
	}
	return `(^|[a-z])(` + strings.Join(parts, "|") + `)([0-9]|$)`
}

// enoughBytes is for sizes of at least some bytes.
func enoughBytes(least int64) string {
	parts := []string{`^` + atLeast(least) + `[0-9]*$`}
	for i, unit := range []string{"K", "M", "G", "T"} {
		parts = append(parts, `^`+atLeast(max(1, least>>(10*(i+1))))+`[0-9]* ?`+unit)
	}
	return strings.Join(parts, "|")
}

// atLeast matches how a whole number of at least n begins, and those below it
// that have as many digits and the same first one.
func atLeast(n int64) string {
	digits := strconv.FormatInt(n, 10)
	enough := fmt.Sprintf(`[%c-9]%s`, digits[0], strings.Repeat("[0-9]", len(digits)-1))
	if digits[0] == '1' {
		return enough
	}
	return `(` + enough + `|[1-9]` + strings.Repeat("[0-9]", len(digits)) + `)`
}

// size is what a size such as 16MiB means in bytes.
func size(text string) int64 {
	number := strings.TrimRight(text, "KMGTiB")
	n, _ := strconv.ParseInt(number, 10, 64)
	if unit := strings.TrimPrefix(text, number); unit != "" {
		n <<= 10 * (strings.Index("KMGT", unit[:1]) + 1)
	}
	return n
}
