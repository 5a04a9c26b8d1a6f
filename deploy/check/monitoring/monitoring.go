// Package monitoring looks after the chart's alerts and dashboards: each alert
// is tried with samples that must make it fire and samples that must not, links
// to an entry of the runbook, and, like each panel of a dashboard, asks only for
// metrics that the programs serve. It evaluates with Prometheus' own packages
// (parser, rules, scraping, storage, queries), so that no server is needed.
package monitoring

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/neolith/daemon-gateway/deploy/check"
)

// Runbook is the page that the alerts link to, in the repository.
func Runbook() string { return filepath.Join(check.Root(), "docs", "runbook.md") }

// AlertFiles are the chart's files of alerts, by the name of the file.
func AlertFiles() (map[string]string, error) { return chartFiles("alerts", "*.yaml") }

// DashboardFiles are the chart's dashboards, by the name of the file.
func DashboardFiles() (map[string]string, error) { return chartFiles("dashboards", "*.json") }

func chartFiles(folder, pattern string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(check.ChartDir(), "files", folder, pattern))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("the chart has no files/%s/%s", folder, pattern)
	}
	files := make(map[string]string)
	for _, path := range paths {
		files[filepath.Base(path)] = path
	}
	return files, nil
}

// MetricNames returns the metrics that an expression asks for, without
// repetition.
func MetricNames(expression string) ([]string, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	var names []string
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			for _, m := range selector.LabelMatchers {
				if m.Name == model.MetricNameLabel {
					names = append(names, m.Value)
				}
			}
		}
		return nil
	})
	slices.Sort(names)
	return slices.Compact(names), nil
}
