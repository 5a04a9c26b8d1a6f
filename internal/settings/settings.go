// Package settings reads the configuration of every program: flag, else
// environment, else default, by one naming rule. A struct field WSPath tagged
// name:"ws-path" is the flag --ws-path and the environment variable WS_PATH.
//
// Each package owns a Config struct with kong tags; a program composes them as
// fields tagged embed:"". The tags in use:
//
//	name:"ws-path"       the flag; needed where the field holds an initialism
//	help:"..."           unit and effect
//	default:"..."        in the form in which an operator would write it
//	group:"..."          the heading in --help and in docs/configuration.md
//	enum:"a,b"           the only values accepted
//	min:"1" max:"65535"  bounds of numbers, sizes and durations
//	required:""          must be given
//	unless:"X is given"  must be given, but where this holds; Validate sees to it
//	hidden:""            works, but is not listed
//
// Lists are comma-separated. Every field of type Secret, URL or a list of them
// gets a second setting of the same name with -file / _FILE, the path of a file
// that holds the value. An environment variable that is set but empty counts as
// not given.
//
// What a single value cannot tell is checked by a Validate method (see
// Validator). All mistakes of a start are reported together, in one Error.
//
// The package is not a configuration file reader and holds no state.
package settings

import (
	"fmt"
	"reflect"
	"slices"
)

// Validator is implemented by a configuration struct, or by any struct in it,
// that has rules over more than one value's form. Validate calls report once
// for each mistake with the setting's flag or environment name and what was
// expected of it, as in report("WS_PATH", "expected a path that starts with /").
type Validator interface {
	Validate(report func(setting, problem string))
}

// Parse fills cfg, a pointer to a struct, from args (without the program's
// name), the environment and the defaults, in this order of precedence. An
// *Error lists everything the operator has to mend; any other error is a
// mistake in the struct's tags. environ is os.LookupEnv or a test's stand-in.
func Parse(program, description string, cfg any, args []string, environ func(string) (string, bool)) error {
	list, err := describe(program, description, cfg)
	if err != nil {
		return err
	}
	r := newReader(program, list)
	r.readArgs(args)
	r.readEnvironment(environ)
	return r.finish(cfg)
}

// Validate runs the Validate methods of cfg, a pointer to a struct that did not
// come from Parse, and returns an *Error if they report anything. Constructors
// call it, so that a program or test that fills a Config by hand is held to the
// same rules.
func Validate(cfg any) error {
	list, err := describe("", "", cfg)
	if err != nil {
		return err
	}
	r := newReader("", list)
	r.validate(reflect.ValueOf(cfg))
	return r.result()
}

// Default returns a T with every setting at its default, for tests that change
// one thing. It panics if the tags of T are wrong, and validates nothing.
func Default[T any]() T {
	var cfg T
	list, err := describe("", "", &cfg)
	if err == nil {
		for _, s := range list {
			if s.fileOf == nil && s.decode(s.fallback) != nil {
				err = fmt.Errorf("setting %s: the default %q does not parse", s.env, s.fallback)
			}
		}
	}
	if err != nil {
		panic(err)
	}
	return cfg
}

// find returns the setting with this flag or environment name, or nil.
func find(list []*setting, name string) *setting {
	name = flagName(name)
	i := slices.IndexFunc(list, func(s *setting) bool { return s.flag == name })
	if i < 0 {
		return nil
	}
	return list[i]
}
