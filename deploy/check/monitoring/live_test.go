package monitoring

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

// patience ends what hangs; how fast a machine is decides nothing.
const patience = 5 * time.Minute

// prometheus is Prometheus in this process: it scrapes, stores and answers.
type prometheus struct {
	t       *testing.T
	storage *teststorage.TestStorage
	engine  *promql.Engine
}

// watch scrapes the nodes every second until the test ends.
func watch(t *testing.T, nodes []node) *prometheus {
	t.Helper()
	p := &prometheus{t, teststorage.New(t), promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)}
	settings, err := config.Load(`{global: {scrape_interval: 1s, scrape_timeout: 1s}, scrape_configs: [{job_name: gateway}]}`, promslog.NewNopLogger())
	require.NoError(t, err)
	manager, err := scrape.NewManager(nil, nil, nil, p.storage, nil, client.NewRegistry())
	require.NoError(t, err)
	require.NoError(t, manager.ApplyConfig(settings))
	group := &targetgroup.Group{Source: "nodes"}
	for _, n := range nodes {
		group.Targets = append(group.Targets, model.LabelSet{
			model.AddressLabel: model.LabelValue(n.address), "namespace": model.LabelValue(n.namespace), "instance": model.LabelValue(n.instance),
		})
	}
	targets, ended := make(chan map[string][]*targetgroup.Group, 1), make(chan error, 1)
	targets <- map[string][]*targetgroup.Group{"gateway": {group}}
	go func() { ended <- manager.Run(targets) }()
	t.Cleanup(func() {
		manager.Stop()
		require.NoError(t, <-ended)
	})
	return p
}

// query returns the samples of an expression now, without those that are not a
// number.
func (p *prometheus) query(expression string) promql.Vector {
	p.t.Helper()
	query, err := p.engine.NewInstantQuery(context.Background(), p.storage, nil, expression, time.Now())
	require.NoError(p.t, err, expression)
	defer query.Close()
	result := query.Exec(context.Background())
	require.NoError(p.t, result.Err, expression)
	vector, err := result.Vector()
	require.NoError(p.t, err, expression)
	return slices.DeleteFunc(slices.Clone(vector), func(s promql.Sample) bool { return math.IsNaN(s.F) })
}

// names are the metrics that have been scraped.
func (p *prometheus) names() []string {
	p.t.Helper()
	querier, err := p.storage.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(p.t, err)
	defer func() { require.NoError(p.t, querier.Close()) }()
	names, _, err := querier.LabelValues(context.Background(), model.MetricNameLabel, nil)
	require.NoError(p.t, err)
	return names
}

// needIncident are panels without data as long as nothing has happened.
var needIncident = map[string]string{
	"router.json: Time for a batch":          "PostgreSQL has to be there: it is away in this test",
	"edge.json: Time for a batch of history": "the same",
}

// The cluster is real, and so is what asks: what an operator would see as "No
// data", or what an alert would never find, fails here.
func TestAgainstARunningCluster(t *testing.T) {
	t.Parallel()
	p := watch(t, startCluster(t))
	// Prometheus' own, and those of kube-state-metrics.
	synthetic := []string{"up", "ALERTS", "kube_cronjob_status_last_successful_time", "kube_cronjob_created"}

	t.Run("every metric that alerts and panels ask for is served", func(t *testing.T) {
		asked := make(map[string]string)
		for name, alert := range alerts(t) {
			asked[alert.Query().String()] = name
		}
		panels(t, func(_ *testing.T, dashboard string, panel Panel) {
			for _, target := range panel.Targets {
				asked[target.Query()] = dashboard + ": " + panel.Title
			}
		})
		eventuallyNone(t, func() (missing []string) {
			served := append(p.names(), synthetic...)
			for expression, where := range asked {
				names, err := MetricNames(expression)
				require.NoError(t, err, where)
				for _, name := range names {
					if !slices.Contains(served, name) {
						missing = append(missing, fmt.Sprintf("%s (%s)", name, where))
					}
				}
			}
			return missing
		})
	})

	t.Run("every metric that is served is documented", func(t *testing.T) {
		page, err := os.ReadFile(filepath.Join(filepath.Dir(Runbook()), "metrics.md"))
		require.NoError(t, err)
		documented := 0
		for _, name := range p.names() {
			if !strings.HasPrefix(name, "gateway_") && !strings.HasPrefix(name, "ws_") {
				continue
			}
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
			require.True(t, strings.Contains(string(page), "| `"+name+"` |") || strings.Contains(string(page), "| `"+base+"` | histogram |"), name)
			documented++
		}
		require.Greater(t, documented, 100)
	})

	t.Run("every panel's query returns data", func(t *testing.T) {
		eventuallyNone(t, func() (empty []string) {
			panels(t, func(_ *testing.T, dashboard string, panel Panel) {
				where := dashboard + ": " + panel.Title
				if needIncident[where] != "" {
					return
				}
				for _, target := range panel.Targets {
					if len(p.query(target.Query())) == 0 {
						empty = append(empty, where+": "+target.Query())
					}
				}
			})
			return empty
		})
	})

	t.Run("no alert finds anything in a healthy cluster", func(t *testing.T) {
		eventuallyNone(t, func() (finding []string) {
			for name, alert := range alerts(t) {
				for _, sample := range p.query(alert.Query().String()) {
					if namespace := sample.Metric.Get("namespace"); namespace != special {
						finding = append(finding, fmt.Sprintf("%s: %s", name, sample))
					}
				}
			}
			return finding
		})
	})
}

// eventuallyNone waits until nothing is found any more.
func eventuallyNone(t *testing.T, find func() []string) {
	t.Helper()
	var last found
	require.Eventually(t, func() bool { last = find(); return len(last) == 0 }, patience, time.Second, "%s", &last)
}

// found is printed only if it is of interest.
type found []string

func (f *found) String() string { return strings.Join(*f, "\n") }
