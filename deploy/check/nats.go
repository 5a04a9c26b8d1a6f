package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// NATSObjects renders the official chart of NATS, of which testdata has a copy,
// with deploy/nats/values.yaml.
func NATSObjects() ([]runtime.Object, error) {
	loaded, err := loader.Load(filepath.Join(Root(), "deploy", "check", "testdata", "nats"))
	if err != nil {
		return nil, fmt.Errorf("load the chart of NATS: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(Root(), "deploy", "nats", "values.yaml"))
	if err != nil {
		return nil, err
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict(text, &given); err != nil {
		return nil, fmt.Errorf("deploy/nats/values.yaml: %w", err)
	}
	options := common.ReleaseOptions{Name: "nats", Namespace: "nats", Revision: 1, IsInstall: true}
	values, err := util.ToRenderValues(loaded, given, options, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Render(loaded, values)
	if err != nil {
		return nil, err
	}
	var templates []Template
	for name, text := range rendered {
		templates = append(templates, Template{Name: name, Text: text})
	}
	return Objects(templates)
}

// NATSConfig is the configuration of the servers.
func NATSConfig() ([]byte, error) {
	objects, err := NATSObjects()
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if config, ok := o.(*corev1.ConfigMap); ok && config.Data["nats.conf"] != "" {
			return []byte(generatedNote + strings.TrimSpace(config.Data["nats.conf"]) + "\n"), nil
		}
	}
	return nil, fmt.Errorf("the chart of NATS renders no nats.conf")
}
