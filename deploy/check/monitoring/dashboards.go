package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Dashboard is what is checked of a Grafana dashboard.
type Dashboard struct {
	UID         string  `json:"uid"`
	Title       string  `json:"title"`
	Description string  `json:"description"`
	Panels      []Panel `json:"panels"`
	Templating  struct {
		List []Variable `json:"list"`
	} `json:"templating"`
}

// Panel is one of its panels; a row has no queries.
type Panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Datasource  struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []Target `json:"targets"`
}

// Target is a query of a panel.
type Target struct {
	RefID string `json:"refId"`
	Expr  string `json:"expr"`
}

// Variable is what the reader of a dashboard chooses.
type Variable struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Definition string `json:"definition"`
}

// placeholders stand in queries for what Grafana puts there: all namespaces and
// nodes, and a window that holds some scrapes.
var placeholders = strings.NewReplacer("$namespace", ".*", "$instance", ".*", "$__rate_interval", "1m")

// Query is the expression that Grafana would send.
func (t Target) Query() string { return placeholders.Replace(t.Expr) }

// Dashboards reads the chart's dashboards, by the name of the file.
func Dashboards() (map[string]Dashboard, error) {
	files, err := DashboardFiles()
	if err != nil {
		return nil, err
	}
	found := make(map[string]Dashboard)
	for name, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var d Dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found[name] = d
	}
	return found, nil
}
