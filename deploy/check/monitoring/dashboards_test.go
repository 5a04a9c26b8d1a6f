package monitoring

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// panels calls test for each panel that shows something.
func panels(t *testing.T, test func(t *testing.T, dashboard string, p Panel)) {
	t.Helper()
	dashboards, err := Dashboards()
	require.NoError(t, err)
	for name, d := range dashboards {
		for _, p := range d.Panels {
			if p.Type != "row" {
				test(t, name, p)
			}
		}
	}
}

func TestEachPanelSaysWhatItShowsAndInWhatUnit(t *testing.T) {
	t.Parallel()
	panels(t, func(t *testing.T, dashboard string, p Panel) {
		where := dashboard + ": " + p.Title
		require.NotEmpty(t, p.Title, dashboard)
		require.NotEmpty(t, p.Description, where)
		require.NotEmpty(t, p.FieldConfig.Defaults.Unit, where)
		require.Equal(t, "${datasource}", p.Datasource.UID, where)
		require.NotEmpty(t, p.Targets, where)
		for _, target := range p.Targets {
			require.NotContains(t, target.Query(), "$", "%s: a variable that the dashboard does not have", where)
			_, err := MetricNames(target.Query())
			require.NoError(t, err, where)
			require.Contains(t, target.Expr, "$namespace", "%s mixes clusters", where)
		}
	})
}

func TestPanelsStandBesideOneAnother(t *testing.T) {
	t.Parallel()
	dashboards, err := Dashboards()
	require.NoError(t, err)
	seen := make(map[string]string)
	for name, d := range dashboards {
		require.NotContains(t, seen, d.UID, "two dashboards of one uid")
		seen[d.UID] = name
		require.True(t, strings.HasPrefix(d.Title, "Daemon Gateway / "), name)
		require.NotEmpty(t, d.Description, name)
		taken, ids := make(map[[2]int]string), make(map[int]bool)
		for _, p := range d.Panels {
			require.False(t, ids[p.ID], "%s: %s: two panels of one id", name, p.Title)
			ids[p.ID] = true
			require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "%s: %s", name, p.Title)
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					place := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					require.NotContains(t, taken, place, "%s: %s lies on %s", name, p.Title, taken[place])
					taken[place] = p.Title
				}
			}
		}
	}
}

func TestDashboardsServeAnyDatasourceNamespaceAndNode(t *testing.T) {
	t.Parallel()
	dashboards, err := Dashboards()
	require.NoError(t, err)
	for name, d := range dashboards {
		variables := make(map[string]Variable)
		for _, v := range d.Templating.List {
			variables[v.Name] = v
		}
		require.Equal(t, "datasource", variables["datasource"].Type, name)
		require.Equal(t, "label_values(gateway_build_info, namespace)", variables["namespace"].Definition, name)
		if name != "overview.json" {
			require.Contains(t, variables["instance"].Definition, `{namespace=~"$namespace"}, instance)`, name)
		}
	}
}
