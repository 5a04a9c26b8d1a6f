package monitoring

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// scrapeInterval is the distance of samples in the tests' series, and of
// evaluations: the default of the chart's PodMonitor.
const scrapeInterval = 15 * time.Second

// alertCase shows when an alert fires and when it does not; see testdata.
type alertCase struct {
	Fires string // series; it fires at their end
	Says  string // part of the description, then
	Quiet string // series; it never fires
}

// alerts reads the chart's alerts as Prometheus does, in a state of their own.
func alerts(t *testing.T) map[string]*rules.AlertingRule {
	t.Helper()
	files, err := AlertFiles()
	require.NoError(t, err)
	manager := rules.NewManager(&rules.ManagerOptions{
		Context: t.Context(), Logger: promslog.NewNopLogger(), Parser: parser.NewParser(parser.Options{}),
	})
	groups, problems := manager.LoadGroups(scrapeInterval, labels.EmptyLabels(), "", nil, false, slices.Collect(maps.Values(files))...)
	require.Empty(t, problems)
	found := make(map[string]*rules.AlertingRule)
	for _, group := range groups {
		for _, rule := range group.Rules() {
			alert, ok := rule.(*rules.AlertingRule)
			require.True(t, ok, "%s is not an alert", rule.Name())
			require.NotContains(t, found, rule.Name(), "two alerts of one name")
			found[rule.Name()] = alert
		}
	}
	return found
}

// alertCases reads the cases of testdata, by the alert's name.
func alertCases(t *testing.T) map[string]alertCase {
	t.Helper()
	files, err := AlertFiles()
	require.NoError(t, err)
	cases := make(map[string]alertCase)
	for name := range files {
		file, err := os.Open("testdata/" + name)
		require.NoError(t, err)
		decoder := yaml.NewDecoder(file)
		decoder.KnownFields(true)
		require.NoError(t, decoder.Decode(&cases), name)
		require.NoError(t, file.Close())
	}
	return cases
}

// timeline evaluates one alert over series.
type timeline struct {
	t     *testing.T
	alert *rules.AlertingRule
	query rules.QueryFunc
	end   time.Time
}

func newTimeline(t *testing.T, name, series string) *timeline {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 15s\n  "+strings.ReplaceAll(strings.TrimSpace(series), "\n", "\n  "))
	head := storage.Head()
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	return &timeline{t, alerts(t)[name], rules.EngineQueryFunc(engine, storage), time.UnixMilli(head.MaxTime())}
}

// run calls seen with the alerts that fire, at each evaluation.
func (l *timeline) run(seen func(at time.Duration, firing []*rules.Alert)) {
	l.t.Helper()
	for at := time.Unix(0, 0); !at.After(l.end); at = at.Add(scrapeInterval) {
		_, err := l.alert.Eval(context.Background(), 0, at, l.query, nil, 0)
		require.NoError(l.t, err)
		firing := slices.DeleteFunc(l.alert.ActiveAlerts(), func(a *rules.Alert) bool { return a.State != rules.StateFiring })
		seen(at.Sub(time.Unix(0, 0)), firing)
	}
}

func TestEachAlertFiresWhenItShouldAndOnlyThen(t *testing.T) {
	t.Parallel()
	cases := alertCases(t)
	require.ElementsMatch(t, slices.Collect(maps.Keys(alerts(t))), slices.Collect(maps.Keys(cases)), "each alert has its case")
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var last []*rules.Alert
			newTimeline(t, name, c.Fires).run(func(_ time.Duration, firing []*rules.Alert) { last = firing })
			require.Len(t, last, 1, "it fires, once")
			require.NotEmpty(t, c.Says)
			require.Contains(t, last[0].Annotations.Get("description"), c.Says)
			for _, annotation := range []string{"summary", "description"} {
				require.NotContains(t, last[0].Annotations.Get(annotation), "error expanding template")
			}
			newTimeline(t, name, c.Quiet).run(func(at time.Duration, firing []*rules.Alert) {
				require.Empty(t, firing, "after %s", at)
			})
		})
	}
}

// table returns the rows of the table below a heading, by their first cells.
func table(t *testing.T, page, heading string) (rows map[string]string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	rows = make(map[string]string)
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| failure") {
			rows[strings.TrimPrefix(cells[0], "| ")] = line
		}
	}
	require.NotEmpty(t, rows, heading)
	return rows
}

// Whatever the design says may happen, an operator is told when it does.
func TestEachFailureHasItsAlerts(t *testing.T) {
	t.Parallel()
	told := table(t, Runbook(), "## Failures and their alerts")
	failures := table(t, filepath.Join(filepath.Dir(Runbook()), "architecture.md"), "## What happens when")
	require.ElementsMatch(t, slices.Collect(maps.Keys(failures)), slices.Collect(maps.Keys(told)))
	known := alerts(t)
	for failure, row := range told {
		links := regexp.MustCompile(`\[(Gateway\w+)\]\(#(\w+)\)`).FindAllStringSubmatch(row, -1)
		require.NotEmpty(t, links, failure)
		for _, link := range links {
			require.Contains(t, known, link[1], failure)
			require.Equal(t, strings.ToLower(link[1]), link[2], failure)
		}
	}
}

var anchor = regexp.MustCompile(`(?m)^### (.*)$`)

// What an operator is woken by must say what to do, and every entry of the
// runbook under an alert's name must have its alert.
func TestEachAlertIsInTheRunbook(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(Runbook())
	require.NoError(t, err)
	entries := make(map[string]string)
	titles := anchor.FindAllSubmatchIndex(text, -1)
	for i, title := range titles {
		end := len(text)
		if i+1 < len(titles) {
			end = titles[i+1][0]
		}
		entries[string(text[title[2]:title[3]])] = string(text[title[1]:end])
	}
	known := alerts(t)
	for name, alert := range known {
		require.Contains(t, entries, name)
		for _, part := range []string{"**Means.**", "**Look at.**", "**Do.**"} {
			require.Contains(t, entries[name], part, name)
		}
		page := "https://github.com/neolith/daemon-gateway/blob/main/docs/runbook.md#"
		require.Equal(t, page+strings.ToLower(name), alert.Annotations().Get("runbook_url"), name)
		require.Contains(t, []string{"critical", "warning"}, alert.Labels().Get("severity"), name)
		require.NotEmpty(t, alert.Annotations().Get("summary"), name)
	}
	for title := range entries {
		if strings.HasPrefix(title, "Gateway") {
			require.Contains(t, known, title, "the runbook has an entry for an alert that there is not")
		}
	}
}
