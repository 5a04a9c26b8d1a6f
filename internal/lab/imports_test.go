package lab

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/neolith/daemon-gateway/"

// imports returns what each package of the repository imports of it, without
// its tests, by path from the root.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	root := os.DirFS("../..")
	all := map[string][]string{}
	require.NoError(t, fs.WalkDir(root, ".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") && file != "."):
			return fs.SkipDir
		case !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", file), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range parsed.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if imported, ours := strings.CutPrefix(name, module); ours {
				all[path.Dir(file)] = append(all[path.Dir(file)], imported)
			}
		}
		return nil
	}))
	return all
}

func inLab(name string) bool {
	return name == "internal/lab" || strings.HasPrefix(name, "internal/lab/")
}

// What tries the gateway is no part of it: product code never depends on the lab.
func TestOnlyProgramsThatTryTheGatewayImportTheLab(t *testing.T) {
	t.Parallel()
	all := imports(t)
	require.NotEmpty(t, all["internal/edge"])
	for importer, imported := range all {
		if inLab(importer) || slices.Contains([]string{"cmd/lab", probe, "scripts/fuzz", "scripts/suite"}, importer) ||
			strings.HasPrefix(importer, "deploy/check/") {
			continue
		}
		for _, name := range imported {
			require.False(t, inLab(name), "%s imports %s", importer, name)
		}
	}
}

// probe tries a gateway that it did not start. It is shipped, as a command of gatewayctl.
const probe = "internal/probe"

// What is shipped holds of the lab what sends and judges traffic, by way of the probe, and
// nothing that starts or breaks a gateway.
func TestTheShippedProbeHoldsNothingElseOfTheLab(t *testing.T) {
	t.Parallel()
	all := imports(t)
	reached := map[string]bool{}
	var reach func(name string)
	reach = func(name string) {
		if !reached[name] {
			reached[name] = true
			for _, imported := range all[name] {
				reach(imported)
			}
		}
	}
	shipped := []string{"cmd/edge", "cmd/router", "cmd/publisher-bridge", "cmd/gateway-admin", "cmd/gatewayctl"}
	for _, name := range shipped {
		require.NotEmpty(t, all[name], name)
		reach(name)
	}
	require.True(t, reached["internal/lab/ledger"])
	for name := range reached {
		require.False(t, inLab(name) && !slices.Contains([]string{
			"internal/lab/traffic", "internal/lab/ledger",
		}, name), "what is shipped holds %s", name)
	}
}
