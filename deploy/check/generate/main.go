// Command generate writes what is derived from the programs and the chart: the
// settings in the chart's values.schema.json, the table of values in its README,
// the plain manifests in deploy/k8s, and deploy/nats/nats.conf. `make manifests`
// runs it; a test of package check fails where the files are not up to date.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/neolith/daemon-gateway/deploy/check"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	for name, content := range map[string]func() ([]byte, error){"values.schema.json": check.Schema, "README.md": check.Readme} {
		text, err := content()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(check.ChartDir(), name), text, 0o644); err != nil {
			return err
		}
	}
	config, err := check.NATSConfig()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(check.Root(), "deploy", "nats", "nats.conf"), config, 0o644); err != nil {
		return err
	}
	return writeManifests()
}

// writeManifests replaces the folders as a whole, so that no object stays that
// the chart does not have any more.
func writeManifests() error {
	files, err := check.Manifests()
	if err != nil {
		return err
	}
	root := filepath.Join(check.Root(), "deploy", "k8s")
	for _, folder := range []string{"base", "overlays"} {
		if err := os.RemoveAll(filepath.Join(root, folder)); err != nil {
			return err
		}
	}
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
