package settings

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// reader collects what was given for each setting, and every mistake.
type reader struct {
	list     []*setting
	given    map[*setting]string // last one wins; lists add up
	mistaken map[*setting]bool   // has a problem already
	failure  Error
}

func newReader(program string, list []*setting) *reader {
	return &reader{
		list:     list,
		given:    map[*setting]string{},
		mistaken: map[*setting]bool{},
		failure:  Error{Program: program},
	}
}

// readArgs takes --name=value, --name value, and --name for a bool. Nothing
// but names is ever repeated in a message: a mistyped flag may carry a secret.
func (r *reader) readArgs(args []string) {
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if !isFlag || name == "" {
			r.add(fmt.Sprintf("argument %d", i+1), "expected a flag of the form --name=value")
			continue
		}
		name, value, hasValue := strings.Cut(name, "=")
		follows := !hasValue && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--")
		s := r.flagNamed(name)
		switch {
		case s == nil:
			r.add("--"+name, "unknown flag, "+r.suggestion(name))
			if follows {
				i++
			}
		case hasValue:
			r.give(s, value)
		case s.isBool():
			r.given[s] = "true"
		case follows:
			i++
			r.give(s, args[i])
		default:
			r.mistake(s, "got no value, expected "+s.expected())
		}
	}
}

// suggestion says what may have been meant by the name of a flag.
func (r *reader) suggestion(name string) string {
	if s := nearest(r.list, name); s != nil {
		return "did you mean --" + s.flag + "?"
	}
	return "--help lists all"
}

func (r *reader) flagNamed(name string) *setting {
	i := slices.IndexFunc(r.list, func(s *setting) bool { return s.flag == name })
	if i < 0 {
		return nil
	}
	return r.list[i]
}

func (r *reader) give(s *setting, value string) {
	if earlier, ok := r.given[s]; ok && s.isList() && s.fileOf == nil {
		value = earlier + "," + value
	}
	r.given[s] = value
}

// readEnvironment fills what no flag has given. A flag for X also keeps the
// environment's X_FILE out, and the other way round.
func (r *reader) readEnvironment(environ func(string) (string, bool)) {
	byFlag := map[*setting]bool{}
	for s := range r.given {
		byFlag[s] = true
		byFlag[s.fileOf] = true
	}
	for _, s := range r.list {
		if byFlag[s] || byFlag[s.fileOf] && s.fileOf != nil {
			continue
		}
		if value, ok := environ(s.env); ok && value != "" {
			r.given[s] = value
		}
	}
}

// finish decodes all settings, validates the result and returns every mistake.
func (r *reader) finish(cfg any) error {
	for _, s := range r.list {
		if err := r.decode(s); err != nil {
			return err
		}
	}
	fillFiles(reflect.ValueOf(cfg), r.files())
	r.validate(reflect.ValueOf(cfg))
	return r.result()
}

func (r *reader) result() error {
	if len(r.failure.Problems) > 0 {
		return &r.failure
	}
	return nil
}

func (r *reader) decode(s *setting) error {
	value, given := r.given[s]
	switch {
	case s.fileOf != nil:
		if given {
			r.decodeFile(s, value)
		}
		return nil
	case !given:
		if err := s.decode(s.fallback); err != nil {
			return fmt.Errorf("setting %s: the default %q does not parse: %w", s.env, s.fallback, err)
		}
		if s.required && !r.givenByFile(s) {
			r.mistake(s, "not given, expected "+s.expected())
		}
	case s.decode(value) != nil:
		r.mistake(s, r.got(s)+", expected "+s.expected())
	}
	return nil
}

func (r *reader) givenByFile(s *setting) bool {
	return slices.ContainsFunc(r.list, func(f *setting) bool {
		_, given := r.given[f]
		return given && f.fileOf == s
	})
}

func (r *reader) decodeFile(file *setting, path string) {
	s := file.fileOf
	if _, both := r.given[s]; both {
		r.mistake(file, "given together with "+s.env+", expected one of the two")
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		r.mistaken[s] = true
		r.mistake(file, fmt.Sprintf("got %q, expected %s: %v", path, file.expected(), reason(err)))
		return
	}
	if err := s.decodeContent(content); err != nil {
		r.mistake(s, "got the content of "+path+" (not shown), expected "+s.expected())
	}
	r.given[s] = ""
}

// reason drops the path that an *os.PathError repeats.
func reason(err error) error {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// decode sets the field from text; "" sets the zero value where there is no
// default. A secret is taken as it is: a space may be part of it.
func (s *setting) decode(text string) error {
	switch {
	case s.isList():
		return s.decodeList(strings.Split(text, ","))
	case s.element() == reflect.TypeFor[Secret]():
		return s.decodeElement(text, s.target)
	}
	return s.decodeElement(strings.TrimSpace(text), s.target)
}

// decodeContent sets the field from a file. Lists hold one value a line there,
// so that a value may contain a comma.
func (s *setting) decodeContent(content []byte) error {
	text := string(WithoutMark(content))
	if s.isList() {
		return s.decodeList(strings.Split(text, "\n"))
	}
	return s.decode(strings.TrimRight(text, "\r\n"))
}

func (s *setting) decodeList(items []string) error {
	list := reflect.MakeSlice(s.target.Type(), 0, len(items))
	for _, item := range items {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		value := reflect.New(s.element()).Elem()
		if err := s.decodeElement(item, value); err != nil {
			return err
		}
		list = reflect.Append(list, value)
	}
	if list.Len() == 0 {
		list = reflect.Zero(s.target.Type())
	}
	s.target.Set(list)
	return nil
}

var mappers = kong.NewRegistry().RegisterDefaults()

func (s *setting) decodeElement(text string, target reflect.Value) error {
	if text == "" && s.fallback == "" {
		target.SetZero()
		return nil
	}
	value, err := parseAs(text, target.Type())
	if err != nil {
		return err
	}
	if len(s.enum) > 0 && !slices.Contains(s.enum, text) {
		return fmt.Errorf("not %s", s.expected())
	}
	if err := s.checkBounds(value); err != nil {
		return err
	}
	target.Set(value)
	return nil
}

func parseAs(text string, t reflect.Type) (reflect.Value, error) {
	value := reflect.New(t).Elem()
	mapper := mappers.ForType(t)
	if mapper == nil {
		return value, fmt.Errorf("type %s cannot be a setting", t)
	}
	scan := kong.Scan().PushTyped(text, kong.FlagValueToken)
	return value, mapper.Decode(&kong.DecodeContext{Value: &kong.Value{Tag: &kong.Tag{}}, Scan: scan}, value)
}

func (s *setting) checkBounds(value reflect.Value) error {
	for _, bound := range []struct {
		text string
		sign int
	}{{s.min, -1}, {s.max, 1}} {
		if bound.text == "" {
			continue
		}
		limit, err := parseAs(bound.text, value.Type())
		if err != nil {
			return err
		}
		if compare(value, limit) == bound.sign {
			return fmt.Errorf("out of bounds")
		}
	}
	return nil
}
