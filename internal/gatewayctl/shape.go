package gatewayctl

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/trace"
)

// results are what commands print with -o json, for their documentation. Those that are
// left out print none.
var results = map[string]any{
	"status": status{}, "nodes": nodes{}, "partitions": partitions{}, "connections": connections{}, "orchestrator": orchestrator{},
	"event": eventWay{}, "refusals": refusals{}, "top": topView{}, "doctor": examination{}, "bundle": bundled{}, "balance": balance{},
	"dead-letters list": letters{}, "dead-letters show": deadLetter{}, "dead-letters replay": done{}, "dead-letters drop": done{},
	"disconnect": done{}, "revoke": done{}, "unrevoke": done{}, "drain": done{}, "undrain": done{}, "log-level": levels{}, "publish": published{},
	"context add": contexts{}, "context list": contexts{}, "context use": contexts{}, "context remove": contexts{},
}

// writeShape writes the form of a result as JSON: types in the place of values, a ? after
// names that may be missing.
func writeShape(w io.Writer, result any) {
	fmt.Fprintln(w, shape(reflect.TypeOf(result), ""))
}

var (
	textType     = reflect.TypeFor[encoding.TextMarshaler]()
	jsonType     = reflect.TypeFor[json.Marshaler]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	hopType      = reflect.TypeFor[trace.Hop]()
)

// shape is the form of a type at an indentation.
func shape(t reflect.Type, indent string) string {
	switch t {
	case timeType:
		return "time"
	case durationType:
		return "nanoseconds"
	case hopType:
		return "{…}"
	}
	if t.Implements(textType) || reflect.PointerTo(t).Implements(textType) {
		return "text"
	}
	if t.Implements(jsonType) {
		return "any"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shape(t.Elem(), indent)
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "base64"
		}
		return "[" + shape(t.Elem(), indent) + "]"
	case reflect.Map:
		return "{name: " + shape(t.Elem(), indent) + "}"
	case reflect.Struct:
		return shapeOfStruct(t, indent)
	case reflect.Interface:
		return "any"
	}
	return "number"
}

// shapeOfStruct stands on a line where it fits.
func shapeOfStruct(t reflect.Type, indent string) string {
	const inner = "  "
	fields := shapeFields(t, indent+inner)
	if line := "{" + strings.Join(fields, ", ") + "}"; len(indent)+len(line) < 80 && !strings.Contains(line, "\n") {
		return line
	}
	return "{\n" + indent + inner + strings.Join(fields, ",\n"+indent+inner) + "\n" + indent + "}"
}

func shapeFields(t reflect.Type, indent string) (fields []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-", !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && name == "":
			fields = append(fields, shapeFields(f.Type, indent)...)
			continue
		case name == "":
			name = f.Name
		}
		if strings.Contains(options, "omit") {
			name += "?"
		}
		fields = append(fields, name+": "+shape(f.Type, indent))
	}
	return fields
}
