package check

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

func composeDir() string { return filepath.Join(Root(), "deploy", "compose") }

// project loads the Compose file as Docker does, with the variables that init
// writes into .env.
func project(t *testing.T) *types.Project {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(composeDir(), "init"))
	require.NoError(t, err)
	environment := types.Mapping{"GATEWAY_IMAGE": "daemon-gateway:test"}
	for _, match := range regexp.MustCompile(`echo "([A-Z_]+)=\$`).FindAllStringSubmatch(string(script), -1) {
		environment[match[1]] = "psecret"
	}
	for _, user := range []string{"EDGE", "ROUTER", "BRIDGE", "ADMIN", "BACKEND", "OPERATOR", "BACKUP"} {
		environment["NATS_"+user+"_PASSWORD"] = "psecret"
	}
	environment["GOSSIP_KEY"] = strings.TrimSpace(contents["gossip-keys"])
	environment["DAEMON_JWT_SECRET"] = contents["jwt-secret"]
	environment["API_KEY_SHA256"] = strings.Fields(contents["api-keys"])[1]
	loaded, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  composeDir(),
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(composeDir(), "compose.yaml")}},
		Environment: environment,
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
	require.NoError(t, err)
	return loaded
}

func TestTheComposeFileGivesTheProgramsSettingsThatTheyAccept(t *testing.T) {
	t.Parallel()
	known, err := Programs()
	require.NoError(t, err)
	dir, err := programs()
	require.NoError(t, err)
	var found []string
	loaded := project(t)
	for _, service := range loaded.Services {
		if service.Image != "daemon-gateway:test" {
			continue
		}
		// What are files of the container there are files of the test here.
		here := map[string]string{}
		for _, config := range service.Configs {
			here[config.Target] = filepath.Join(t.TempDir(), config.Source)
			require.NoError(t, os.WriteFile(here[config.Target], []byte(loaded.Configs[config.Source].Content), 0o600))
		}
		name := called(service.Command)
		found = append(found, name)
		var settings []string
		for _, s := range known[name] {
			settings = append(settings, s.Name)
		}
		p := program{filepath.Join(dir, service.Command[0]), service.Command[1:], map[string]string{}}
		for variable, value := range service.Environment {
			require.Contains(t, settings, variable, service.Name)
			p.environment[variable] = cmp.Or(here[*value], *value)
		}
		output, err := p.command(t.Context(), "--print-config").CombinedOutput()
		require.NoError(t, err, "%s: %s", service.Name, output)
	}
	require.ElementsMatch(t, []string{"edge", "router", "publisher-bridge", "gateway-admin", "gatewayctl probe"}, found)
}

// A tier without a database goes by tokens alone, or by what publishers say, and
// nobody who tries the gateway sees what the others do with it.
func TestEveryTierOfTheComposeFileUsesItsDatabase(t *testing.T) {
	t.Parallel()
	loaded := project(t)
	for _, tier := range []string{"edge", "router", "bridge"} {
		url := loaded.Services[tier].Environment["DATABASE_URL"]
		require.NotNil(t, url, tier)
		require.Equal(t, "postgres://neolith:psecret@postgres:5432/neolith", *url)
	}
	kept := loaded.Services["admin"].Environment["KEEP_UNRESOLVED"]
	require.NotNil(t, kept)
	require.Equal(t, "true", *kept)
	var initial []string
	for _, volume := range loaded.Services["postgres"].Volumes {
		if strings.HasPrefix(volume.Target, "/docker-entrypoint-initdb.d/") {
			initial = append(initial, filepath.Base(volume.Source))
		}
	}
	require.Equal(t, []string{"schema.sql", "orchestrators.sql"}, initial)
}

func TestTheComposeFileMountsFilesThatExist(t *testing.T) {
	t.Parallel()
	for _, service := range project(t).Services {
		for _, volume := range service.Volumes {
			if volume.Type == types.VolumeTypeBind {
				require.FileExists(t, volume.Source, service.Name)
				require.True(t, volume.ReadOnly, "%s: %s", service.Name, volume.Target)
			}
		}
	}
}

func TestTheComposeFileGivesNATSThePasswordOfEveryUser(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(ChartDir(), "files", "nats", "authorization.conf"))
	require.NoError(t, err)
	variables := regexp.MustCompile(`password: \$([A-Z_]+)`).FindAllStringSubmatch(string(text), -1)
	require.Len(t, variables, 7)
	nats := project(t).Services["nats"]
	for _, match := range variables {
		require.Contains(t, nats.Environment, match[1])
	}
	values, err := Values("values-evaluation.yaml")
	require.NoError(t, err)
	c := install(t, values)
	for _, w := range c.workloads() {
		if w.component() == "nats" {
			names, _ := c.environment(w.container())
			for _, match := range variables {
				require.Contains(t, names, match[1])
			}
		}
	}
}

// The chart's server and the Compose file's differ in nothing but sizes, and a server is started with the latter (deploy/compose). Both had
// their own settings once, and the server refused what the chart gave it.
func TestTheComposeFilesNATSIsConfiguredLikeTheCharts(t *testing.T) {
	t.Parallel()
	settings := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		filled := strings.NewReplacer("<partitions>", "16", "<maxFileStore>", "8GiB", "<syncInterval>", "always").Replace(string(text))
		plain := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(filled, "")
		return plain
	}
	require.Equal(t, settings(filepath.Join(ChartDir(), "files", "nats", "nats.conf")), settings(filepath.Join(composeDir(), "nats.conf")))
}
