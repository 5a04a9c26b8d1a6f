// Package check looks after everything the gateway is deployed with: the Helm
// chart, the plain manifests that are rendered from it, and the Compose file.
// Its tests are what CI runs instead of a cluster: every object is decoded
// strictly into the Kubernetes API's own types, the values' schema must refuse
// what is wrong, and what the chart says about the programs (settings, probes,
// ports) is held against the programs themselves.
//
// It is a module of its own, so that the gateway's go.mod stays free of Helm and
// Kubernetes, which nothing that runs in production needs. What it depends on:
//
//   - helm.sh/helm: renders and lints the chart, exactly as helm does
//   - k8s.io/api, apimachinery, client-go: the API's types, strict decoding, and
//     a stand-in for the cluster that the chart's lookup asks
//   - gateway-api and prometheus-operator's monitoring: types of the optional objects
//   - kustomize, which Helm depends on anyway: builds the manifests' overlays
//   - jsonschema, with which Helm validates: the same, with a schema compiled once
//   - compose-go: loads the Compose file as Docker does
//   - prometheus: package monitoring, below, tries alerts and dashboards with it
//
// Command release, below, builds releases, with libraries that it names itself.
// Command generate, beside it, writes what is derived: the settings in the values'
// schema, the table of values in the chart's README, and deploy/k8s.
package check

import (
	"path/filepath"
	"runtime"
)

// Root is the repository's root folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// ChartDir is the folder of the chart.
func ChartDir() string { return filepath.Join(Root(), "helm", "daemon-gateway") }
