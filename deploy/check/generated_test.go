package check

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const hint = "run make manifests"

func TestWhatIsGeneratedIsUpToDate(t *testing.T) {
	t.Parallel()
	for name, generate := range map[string]func() ([]byte, error){"values.schema.json": Schema, "README.md": Readme} {
		want, err := generate()
		require.NoError(t, err)
		have, err := os.ReadFile(filepath.Join(ChartDir(), name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(have), hint)
	}
}

func manifestsDir() string { return filepath.Join(Root(), "deploy", "k8s") }

func TestTheManifestsAreThoseOfTheChart(t *testing.T) {
	t.Parallel()
	want, err := Manifests()
	require.NoError(t, err)
	var have []string
	for _, folder := range []string{"base", "overlays"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(manifestsDir(), folder), func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				name, _ := filepath.Rel(manifestsDir(), path)
				have = append(have, filepath.ToSlash(name))
			}
			return err
		}))
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(want)), have, hint)
	for name, text := range want {
		content, err := os.ReadFile(filepath.Join(manifestsDir(), name))
		require.NoError(t, err)
		require.Equal(t, string(text), string(content), "%s: %s", name, hint)
	}
}

// Base and patches are a way of writing: what kustomize makes of them is what
// Helm would install.
func TestKustomizeBuildsWhatTheChartRenders(t *testing.T) {
	t.Parallel()
	for _, profile := range Profiles() {
		t.Run(profile.Name, func(t *testing.T) {
			t.Parallel()
			want, err := profile.render()
			require.NoError(t, err)
			built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
				Run(filesys.MakeFsOnDisk(), filepath.Join(manifestsDir(), "overlays", profile.Name))
			require.NoError(t, err)
			text, err := built.AsYaml()
			require.NoError(t, err)
			require.NotContains(t, string(text), "kind: Secret\n")
			_, err = Objects([]Template{{Name: profile.Name, Text: string(text)}})
			require.NoError(t, err)
			documents, err := Documents(string(text))
			require.NoError(t, err)
			have := map[string]object{}
			for _, document := range documents {
				var o object
				require.NoError(t, yaml.Unmarshal([]byte(document), &o))
				require.Equal(t, Namespace, o.metadata()["namespace"])
				delete(o.metadata(), "namespace")
				have[o.key()] = o
			}
			for key, o := range want {
				require.Equal(t, o, have[key], key)
			}
			require.Len(t, have, len(want))
		})
	}
}

func TestTheReadmeOfTheManifestsMakesEverySecretTheyReferTo(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(manifestsDir(), "README.md"))
	require.NoError(t, err)
	for _, profile := range Profiles() {
		values, err := Values(profile.Values...)
		require.NoError(t, err)
		for _, value := range values {
			section, _ := value.(map[string]any)
			secret, given := section["existingSecret"].(string)
			if !given {
				continue
			}
			require.True(t, strings.Contains(string(text), "create secret generic "+secret+" "), "%s: %s", profile.Name, secret)
		}
	}
}
