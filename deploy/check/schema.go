package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tiers are the chart's tiers and the program of each.
var Tiers = map[string]string{"edge": "edge", "router": "router", "bridge": "publisher-bridge"}

// owned are the settings that the chart gives itself, from other values, or that are
// secret and have no place in a ConfigMap: they cannot be set by name as well.
var owned = regexp.MustCompile(`^(NODE_NAME|ADMIN_ADDR|SHUTDOWN_TIMEOUT|DRAIN_PERIOD|PORT|LISTEN_ADDR|(NATS_URL|NATS_CREDS|NATS_NKEY|NATS_TLS|DATABASE_TLS|INTAKE_TLS|TLS)_.*|REDIS_TLS_(CA|CERT|KEY)(_FILE)?|NATS_URL|NATS_INBOX_PREFIX|NATS_JETSTREAM_DOMAIN|MANAGE_STREAMS|` +
	`GOSSIP_.*|DATABASE_URL.*|DAEMON_JWT_SECRET.*|JWT_PUBLIC_KEY_FILE|JWT_JWKS_FILE|REDIS_URL.*|REDIS_ADDRS|REDIS_MASTER_NAME|HTTP_ADDR|API_KEYS_FILE|OTEL_EXPORTER_OTLP_(TRACES_)?HEADERS)$`)

// Owned reports whether a setting is the chart's own.
func Owned(name string) bool { return owned.MatchString(name) }

// agreed reports whether all nodes must agree on a setting, so that it is not
// to be set for one tier.
func agreed(s Setting) bool { return s.Group == "Event log" || s.Name == "CLUSTER_NAME" }

// Schema returns values.schema.json as it is to be: as it is, with the settings
// that the programs have.
func Schema() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(ChartDir(), "values.schema.json"))
	if err != nil {
		return nil, err
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	programs, err := Programs()
	if err != nil {
		return nil, err
	}
	definitions := schema["$defs"].(map[string]any)
	common := map[string]int{}
	for tier, program := range Tiers {
		own := map[string]any{}
		for _, s := range programs[program] {
			common[s.Name]++
			if !Owned(s.Name) && !agreed(s) {
				own[s.Name] = settingSchema(s)
			}
		}
		definitions[tier+"Settings"] = settingsSchema(own)
	}
	shared := map[string]any{}
	for _, s := range slices.Concat(programs["edge"], programs["router"]) {
		if !Owned(s.Name) && (common[s.Name] == len(Tiers) || agreed(s)) {
			shared[s.Name] = settingSchema(s)
		}
	}
	definitions["commonSettings"] = settingsSchema(shared)
	values, err := Values("values.yaml")
	if err != nil {
		return nil, err
	}
	requireDefaults(schema, values, schema)
	return indented(schema)
}

// requireDefaults makes a schema ask for the values that templates cannot do
// without: sections, and those whose default is not empty, unless null is
// allowed. Helm takes a value that is null out of the values, so it is missed
// here, by name.
func requireDefaults(schema, values, root map[string]any) {
	var required []string
	properties := schema["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		property := properties[key].(map[string]any)
		resolved := resolve(property, root)
		if allowsNull(resolved) {
			continue
		}
		section, isMap := values[key].(map[string]any)
		_, described := resolved["properties"]
		switch {
		case isMap && described && property["$ref"] == nil:
			required = append(required, key)
			requireDefaults(property, section, root)
		case !isMap && !isEmpty(values[key]):
			required = append(required, key)
		}
	}
	delete(schema, "required")
	if required != nil {
		schema["required"] = required
	}
}

// resolve follows a reference to a definition.
func resolve(property, root map[string]any) map[string]any {
	reference, _ := property["$ref"].(string)
	path, ok := strings.CutPrefix(reference, "#/")
	if !ok {
		return property
	}
	found := root
	for step := range strings.SplitSeq(path, "/") {
		found = found[step].(map[string]any)
	}
	return found
}

func allowsNull(property map[string]any) bool {
	types, _ := property["type"].([]any)
	values, _ := property["enum"].([]any)
	return slices.Contains(types, any("null")) || slices.Contains(values, nil)
}

func isEmpty(value any) bool {
	if list, ok := value.([]any); ok {
		return len(list) == 0
	}
	return slices.Contains([]any{nil, "", false, float64(0), int64(0)}, value)
}

func settingsSchema(properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}

func indented(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return b.Bytes(), err
}

// settingSchema is what a setting may be in a values file. What it cannot
// express the program itself refuses at its start.
func settingSchema(s Setting) map[string]any {
	schema := map[string]any{"description": s.Meaning, "type": "string"}
	switch {
	case s.Type == "bool":
		schema["type"] = "boolean"
	case s.Type == "number":
		schema["type"] = "integer"
		maps.Copy(schema, bounds(s))
	case strings.Contains(s.Type, " | "):
		delete(schema, "type")
		schema["enum"] = strings.Split(s.Type, " | ")
	default:
		maps.Copy(schema, written(s))
	}
	return schema
}

// bounds are the bounds of a number.
func bounds(s Setting) map[string]any {
	found := map[string]any{}
	least, most := s.Bounds()
	for keyword, text := range map[string]string{"minimum": least, "maximum": most} {
		if n, err := strconv.Atoi(text); err == nil {
			found[keyword] = n
		}
	}
	return found
}
