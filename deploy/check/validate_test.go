package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// complaints are what a schema has against values, in some order, without who says
// it.
func complaints(err error) (list []string) {
	if err == nil {
		return nil
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "- at ") {
			list = append(list, line)
		}
	}
	return list
}

// Everything here is rendered with schemas that are compiled once. Helm, which
// compiles them each time, must have said the same.
func TestValuesAreRefusedAsHelmRefusesThem(t *testing.T) {
	t.Parallel()
	minimal, err := Values(examples()["minimal"]...)
	require.NoError(t, err)
	for name, values := range map[string]map[string]any{
		"good":  minimal,
		"wrong": {"edge": map[string]any{"replicas": "three", "replica": 3}, "settings": map[string]any{"LOG_MAX_BYTES": "lots"}},
	} {
		for _, around := range []bool{false, true} {
			loaded, err := loader.Load(ChartDir())
			require.NoError(t, err)
			given := values
			if around {
				given = map[string]any{loaded.Name(): values}
				loaded, err = umbrella(loaded, given)
				require.NoError(t, err)
			}
			options := common.ReleaseOptions{Name: "gateway"}
			_, said := util.ToRenderValues(loaded, given, options, common.DefaultCapabilities)
			_, here := renderValues(loaded, given, options)
			require.ElementsMatch(t, complaints(said), complaints(here))
			if name == "good" {
				require.NoError(t, said)
				require.NoError(t, here)
			} else {
				require.Greater(t, len(complaints(here)), 3)
			}
		}
	}
}
