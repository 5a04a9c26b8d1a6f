package settings

import "strings"

// Flag is a setting as a flag, for a program whose flags another library reads: what
// that has read goes to Prepare as --name=value.
type Flag struct {
	Name    string // without the dashes: "ws-path"
	Setting string // "WS_PATH"
	Type    string // for people
	Help    string
	Note    string   // "required" and the like, or ""
	Default string   // as text; "" where the setting has none
	Choices []string // the only values that it may have, or none
	Switch  bool     // true or false, and true without a value
	Hidden  bool
}

// Flags lists the settings of a program.
func Flags(p Program) ([]Flag, error) {
	list, err := describe(p.Name, p.Description, p.Config)
	if err != nil {
		return nil, err
	}
	flags := make([]Flag, len(list))
	for i, s := range list {
		flags[i] = Flag{
			Name: s.flag, Setting: s.env, Type: s.typeName(), Help: s.describeEffect(), Note: s.requiredNote(),
			Default: s.fallback, Choices: s.enum, Switch: s.isBool(), Hidden: s.hidden,
		}
		if choices := strings.Split(s.typeName(), " | "); len(choices) > 1 {
			flags[i].Choices = choices // also of types that have but a few values
		}
	}
	return flags, nil
}
