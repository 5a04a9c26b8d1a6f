package check

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// good are values that a setting may have, the first of them never its default;
// the smallest and the largest are among them.
func good(t *testing.T, s Setting) []any {
	t.Helper()
	least, most := s.Bounds()
	switch kind := s.Type; {
	case kind == "bool":
		return []any{s.Default != "true", s.Default == "true"}
	case kind == "number":
		if most != "" {
			return []any{number(t, most), number(t, s.Default), number(t, least)}
		}
		return []any{number(t, s.Default) + 1, number(t, s.Default), number(t, least)}
	case kind == "duration":
		return []any{"61m", "2h45m", "7200s", "1.5h", "90m30s", "3600000ms", s.Default, least}
	case kind == "duration or ms":
		return []any{20000, "20000", "1m", "0.5s", "1500ms", s.Default, least}
	case kind == "bytes":
		return []any{"2MiB", 2097152, "2 MiB", s.Default, least}
	case kind == "list of CIDR":
		return []any{"10.0.0.0/8", "192.0.2.1/32, 2001:db8::/32", "::ffff:0:0/96", ""}
	case strings.Contains(kind, " | "):
		values := strings.Split(kind, " | ")
		slices.SortStableFunc(values, func(a, _ string) int {
			if a == s.Default {
				return 1
			}
			return 0
		})
		return []any{values[0], values[1]}
	case s.Name == "WS_PATH":
		return []any{"/sockets", "/a/b"}
	case s.Name == "JWT_JWKS_URL":
		return []any{"https://keys.example/jwks.json"}
	case s.Name == "REDIS_PATTERNS":
		return []any{"daemon:events:*", "daemon:events:*, daemon:*:events"}
	}
	return []any{"other"}
}

// bad are values that it may not have.
func bad(t *testing.T, s Setting) []any {
	t.Helper()
	least, most := s.Bounds()
	switch kind := s.Type; {
	case kind == "bool":
		return []any{"maybe", 2}
	case kind == "number":
		numbers := []any{"many", number(t, least) - 1}
		if most != "" {
			numbers = append(numbers, number(t, most)+1)
		}
		return numbers
	case strings.HasPrefix(kind, "duration"):
		d, err := time.ParseDuration(least)
		require.NoError(t, err, s.Name)
		values := []any{"soon", "-1s", "1", "1d", "1 h"}
		if kind != "duration" {
			values = append(slices.DeleteFunc(values, func(v any) bool { return v == "1" }), d.Milliseconds()/2, -1)
		}
		if d > 0 {
			values = append(values, (d / 2).String(), fmt.Sprintf("%dms", d.Milliseconds()/2), "0s", "0h")
		}
		return values
	case kind == "bytes":
		return []any{"lots", "1 parsec", -1, 0, 1, "1", "512B"}
	case kind == "list of CIDR":
		return []any{"everybody", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "2001:db8::/129", "10.0.0.0/8 192.0.2.1/32"}
	case strings.Contains(kind, " | "):
		return []any{"other", "Json"}
	case s.Name == "WS_PATH":
		return []any{"sockets", "/a b", "/a?b", "/a/", "/"}
	}
	return nil
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// eachSetting calls test for each setting that an operator gives by its name,
// with the section of the values that has it: a tier's, or "" for all tiers.
func eachSetting(t *testing.T, test func(tier, section string, s Setting)) {
	t.Helper()
	known, err := Programs()
	require.NoError(t, err)
	for tier, program := range Tiers {
		for _, s := range known[program] {
			if Owned(s.Name) {
				continue
			}
			section := tier
			if agreed(s) {
				section = ""
			}
			test(tier, section, s)
		}
	}
}

// candidates are one value for each setting of a tier, by its path in the values.
type candidates struct {
	program []string // environment
	values  map[string]any
	paths   map[string]string // by the setting's name
}

// rounds deals the values of all settings out, so that each round has one of
// every setting: programs and schema tell of all mistakes at once.
func rounds(t *testing.T) map[string][]candidates {
	t.Helper()
	dealt := map[string][]candidates{}
	eachSetting(t, func(tier, section string, s Setting) {
		for i, value := range slices.Concat(good(t, s), bad(t, s)) {
			if i == len(dealt[tier]) {
				dealt[tier] = append(dealt[tier], candidates{nil, map[string]any{"settings": map[string]any{}, tier: map[string]any{"settings": map[string]any{}}}, map[string]string{}})
			}
			c := &dealt[tier][i]
			c.program = append(c.program, s.Name+"="+fmt.Sprint(value))
			part, path := c.values, "/settings/"+s.Name
			if section != "" {
				part, path = c.values[section].(map[string]any), "/"+section+path
			}
			part["settings"].(map[string]any)[s.Name], c.paths[s.Name] = value, path
		}
	})
	return dealt
}

var otherSetting = regexp.MustCompile(`[A-Z]+_[A-Z]+`)

// What a pod would refuse at its start must not come that far; and what it
// accepts must not be refused before. The programs themselves are the judges.
func TestTheSchemaRefusesTheSettingsThatTheProgramsRefuse(t *testing.T) {
	t.Parallel()
	values, err := Values(examples()["minimal"]...)
	require.NoError(t, err)
	minimal := install(t, values)
	programs := map[string]program{}
	for _, w := range minimal.gateways() {
		programs[w.component()] = minimal.programOf(w)
	}
	chart, err := loader.Load(ChartDir())
	require.NoError(t, err)
	judged := 0
	for tier, list := range rounds(t) {
		for _, c := range list {
			cmd := programs[tier].command(t.Context(), "--print-config")
			cmd.Env = append(cmd.Env, c.program...)
			output, _ := cmd.CombinedOutput() // it lists what is wrong
			_, refusal := renderValues(chart, c.values, common.ReleaseOptions{Name: "gateway"})
			for _, variable := range c.program {
				name, _, _ := strings.Cut(variable, "=")
				verdict := regexp.MustCompile(`\(` + name + `\): got .*expected (.*)`).FindStringSubmatch(string(output))
				if verdict != nil && (otherSetting.MatchString(verdict[1]) || strings.Contains(verdict[1], "no such file")) {
					continue // what a setting may be beside another, and which files there are, is not for the schema to say
				}
				refused := verdict != nil
				said := refusal != nil && strings.Contains(refusal.Error(), "at '"+c.paths[name]+"'")
				require.Equal(t, refused, said, "%s: %s\nthe program:\n%s\nthe schema:\n%v", tier, variable, output, refusal)
				judged++
			}
		}
	}
	require.Greater(t, judged, 500)
}

func TestEverySettingReachesItsTier(t *testing.T) {
	t.Parallel()
	type section = map[string]any
	values, err := Values(examples()["minimal"]...)
	require.NoError(t, err)
	want := map[string]map[string]string{}
	common := section{}
	eachSetting(t, func(tier, where string, s Setting) {
		if want[tier] == nil {
			want[tier] = map[string]string{}
		}
		value := good(t, s)[0]
		want[tier][s.Name] = fmt.Sprint(value)
		if where == "" {
			common[s.Name] = value
			return
		}
		part, _ := values[tier].(section)
		if part == nil {
			part = section{}
			values[tier] = part
		}
		if part["settings"] == nil {
			part["settings"] = section{}
		}
		part["settings"].(section)[s.Name] = value
	})
	values["settings"] = common
	c := install(t, values)
	for tier, d := range c.tiers() {
		_, environment := c.environment(d.Spec.Template.Spec.Containers[0])
		require.Greater(t, len(want[tier]), 10)
		require.Subset(t, environment, want[tier], tier)
	}
}

// Settings stand in a ConfigMap, so no value for a secret may be a setting.
func TestNoSecretIsASettingOfTheChart(t *testing.T) {
	t.Parallel()
	secrets := 0
	eachSetting(t, func(_, _ string, s Setting) {
		require.NotContains(t, s.Type, "secret", s.Name)
	})
	known, err := Programs()
	require.NoError(t, err)
	for _, program := range Tiers {
		for _, s := range known[program] {
			if strings.HasSuffix(s.Type, "secret") {
				secrets++
			}
		}
	}
	require.NotZero(t, secrets)
}

// The chart sets every other setting itself, so that a new one cannot be
// forgotten.
func TestTheChartSetsWhatItKeepsForItself(t *testing.T) {
	t.Parallel()
	known, err := Programs()
	require.NoError(t, err)
	own := map[string]bool{}
	for _, name := range []string{"everything", "production", "intake"} {
		values, err := Values(examples()[name]...)
		require.NoError(t, err)
		c := install(t, values)
		for tier, d := range c.tiers() {
			names, _ := c.environment(d.Spec.Template.Spec.Containers[0])
			for _, name := range names {
				own[tier+" "+name] = true
			}
		}
	}
	// Given as a file, or not wanted in a pod.
	unused := []string{
		"LISTEN_ADDR", "GOSSIP_KEYS", "GOSSIP_INSECURE", "DAEMON_JWT_SECRET", "DAEMON_JWT_SECRET_PREVIOUS", "DATABASE_URL",
		"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
	}
	for tier, program := range Tiers {
		for _, s := range known[program] {
			if Owned(s.Name) && !contains(unused, s.Name) {
				require.True(t, own[tier+" "+s.Name], "%s: the chart keeps %s for itself and never sets it", tier, s.Name)
			}
		}
	}
}
