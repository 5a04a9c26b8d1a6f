package settings

import (
	"encoding"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// setting is one field of the configuration as operators see it.
type setting struct {
	flag     string // without the dashes: "ws-path"
	env      string // "WS_PATH"
	group    string
	help     string
	fallback string // the default, as text
	enum     []string
	min, max string // bounds as text, "" for none
	required bool
	unless   string // what makes it optional, where it is required otherwise
	hidden   bool
	target   reflect.Value // the field; of X for X_FILE
	fileOf   *setting      // X, if this is X_FILE
}

// describe lists the settings of cfg in the order of its fields, each secret
// followed by its file.
func describe(program, description string, cfg any) ([]*setting, error) {
	model, err := kong.New(cfg, kong.Name(program), kong.Description(description), kong.NoDefaultHelp())
	if err != nil {
		return nil, fmt.Errorf("describe the settings of %s: %w", program, err)
	}
	var list []*setting
	for _, flag := range model.Model.Flags {
		s := newSetting(flag)
		list = append(list, s)
		if s.isSecret() {
			list = append(list, s.file())
		}
	}
	for i, s := range list {
		if j := slices.IndexFunc(list[:i], func(o *setting) bool { return o.flag == s.flag }); j >= 0 {
			return nil, fmt.Errorf("setting %s is described twice", s.env)
		}
	}
	return list, nil
}

func newSetting(flag *kong.Flag) *setting {
	s := &setting{
		flag:     flag.Name,
		env:      envName(flag.Name),
		help:     flag.Help,
		fallback: flag.Default,
		min:      flag.Tag.Get("min"),
		max:      flag.Tag.Get("max"),
		required: flag.Required,
		unless:   flag.Tag.Get("unless"),
		hidden:   flag.Hidden,
		target:   flag.Target,
		group:    "General",
	}
	if flag.Group != nil {
		s.group = flag.Group.Title
	}
	if s.fallback == "" && s.isBool() {
		s.fallback = "false"
	}
	if s.max == "" && s.element().Kind() == reflect.Uint16 {
		s.max = "65535" // ports
	}
	if flag.Enum != "" {
		s.enum = flag.EnumSlice()
	}
	return s
}

func (s *setting) file() *setting {
	help := "File that holds " + s.env + "."
	if s.isList() {
		help = "File that holds " + s.env + ", one value a line."
	}
	return &setting{flag: s.flag + "-file", env: s.env + "_FILE", group: s.group, help: help,
		hidden: s.hidden, target: s.target, fileOf: s}
}

func envName(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

func flagName(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "--"), "_", "-"))
}

// title is how messages call the setting.
func (s *setting) title() string { return "--" + s.flag + " (" + s.env + ")" }

func (s *setting) isList() bool { return s.target.Kind() == reflect.Slice }

func (s *setting) isBool() bool { return s.fileOf == nil && s.target.Kind() == reflect.Bool }

// element is the type of one value.
func (s *setting) element() reflect.Type {
	if s.isList() {
		return s.target.Type().Elem()
	}
	return s.target.Type()
}

func (s *setting) isURL() bool { return s.fileOf == nil && s.element() == reflect.TypeFor[URL]() }

// isSecret reports whether the value may hold a secret, and so has a file.
func (s *setting) isSecret() bool {
	return s.isURL() || s.fileOf == nil && s.element() == reflect.TypeFor[Secret]()
}

// typeName names the type for --help and the documentation.
func (s *setting) typeName() string {
	name := s.elementName()
	if s.isList() && s.fileOf == nil {
		return "list of " + name
	}
	return name
}

func (s *setting) elementName() string {
	switch t := s.element(); {
	case s.fileOf != nil:
		return "path"
	case len(s.enum) > 0:
		return strings.Join(s.enum, " | ")
	case t == reflect.TypeFor[Secret]():
		return "secret"
	case t == reflect.TypeFor[URL]():
		return "URL"
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[Milliseconds]():
		return "duration or ms"
	case t == reflect.TypeFor[ByteSize]():
		return "bytes"
	case t == reflect.TypeFor[slog.Level]():
		return "debug | info | warn | error"
	case t == reflect.TypeFor[netip.Prefix]():
		return "CIDR"
	default:
		return kindNames[t.Kind()]
	}
}

var kindNames = map[reflect.Kind]string{
	reflect.Bool: "bool", reflect.String: "text",
	reflect.Int: "number", reflect.Int8: "number", reflect.Int16: "number", reflect.Int32: "number", reflect.Int64: "number",
	reflect.Uint: "number", reflect.Uint8: "number", reflect.Uint16: "number", reflect.Uint32: "number", reflect.Uint64: "number",
	reflect.Float32: "decimal", reflect.Float64: "decimal",
	reflect.Struct: "text",
}

// expected says what a value of this setting has to look like.
func (s *setting) expected() string {
	text := map[string]string{
		"number":                      "a whole number",
		"decimal":                     "a number",
		"bool":                        "true or false",
		"duration":                    "a duration such as 30s or 5m",
		"duration or ms":              "a duration such as 30s, or milliseconds",
		"bytes":                       "a size such as 65536, 256KiB or 10GiB",
		"CIDR":                        "an address range such as 10.0.0.0/8",
		"debug | info | warn | error": "debug, info, warn or error",
		"path":                        "the path of a readable file",
		"text":                        "text",
		"secret":                      "a secret",
		"URL":                         "a URL, # in its password as %23",
	}[s.elementName()]
	switch {
	case len(s.enum) > 0:
		text = "one of " + strings.Join(s.enum, ", ")
	case text == "":
		text = "a valid value"
	}
	if s.isList() && s.fileOf == nil {
		text = "a comma-separated list, each " + text
	}
	if strings.Contains(text, ",") && s.bounds() != "" {
		text += ","
	}
	return text + s.bounds()
}

// bounds is "", " from 1 to 9", " of at least 1" or " of at most 9".
func (s *setting) bounds() string {
	switch {
	case s.min != "" && s.max != "":
		return " from " + s.min + " to " + s.max
	case s.min != "":
		return " of at least " + s.min
	case s.max != "":
		return " of at most " + s.max
	}
	return ""
}

// text is the value in force, as an operator would write it, without secrets.
func (s *setting) text() string { return formatValue(s.target) }

func formatValue(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = formatValue(v.Index(i))
		}
		return strings.Join(parts, ",")
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	case encoding.TextMarshaler:
		if text, err := value.MarshalText(); err == nil {
			return string(text)
		}
	}
	return redact(fmt.Sprint(v.Interface()))
}

// redact masks credentials in addresses that a plain text setting may hold.
func redact(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = mask + rest[at:]
	}
	return scheme + "://" + rest
}
