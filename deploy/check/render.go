package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayapi "sigs.k8s.io/gateway-api/apis/v1"
)

// Release is a chart about to be installed.
type Release struct {
	Name, Namespace string
	Values          map[string]any
	// Files are added to the chart's own, by path.
	Files map[string]string
	// Annotations are added to those of Chart.yaml.
	Annotations map[string]string
	// Umbrella: the chart is a dependency of another one, whose values these are.
	Umbrella bool
	// Cluster answers the chart's lookups; nil: there is no cluster.
	Cluster engine.ClientProvider
}

// Template is what one template of the chart renders to.
type Template struct {
	Name, Text string
}

// Render renders the chart, NOTES.txt included. The error is what helm would
// show: values that the schema or the chart refuses.
func (r Release) Render() ([]Template, error) {
	loaded, err := loader.Load(ChartDir())
	if err != nil {
		return nil, fmt.Errorf("load the chart: %w", err)
	}
	for name, text := range r.Files {
		loaded.Files = append(loaded.Files, &common.File{Name: name, Data: []byte(text)})
	}
	maps.Copy(loaded.Metadata.Annotations, r.Annotations)
	if r.Umbrella {
		if loaded, err = umbrella(loaded, r.Values); err != nil {
			return nil, err
		}
	}
	options := common.ReleaseOptions{Name: r.Name, Namespace: r.Namespace, Revision: 1, IsInstall: true}
	values, err := renderValues(loaded, r.Values, options)
	if err != nil {
		return nil, err
	}
	var rendered map[string]string
	if r.Cluster == nil {
		rendered, err = engine.Render(loaded, values)
	} else {
		rendered, err = engine.RenderWithClientProvider(loaded, values, r.Cluster)
	}
	if err != nil {
		return nil, err
	}
	var templates []Template
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		templates = append(templates, Template{Name: name, Text: rendered[name]})
	}
	return templates, nil
}

// umbrella is a chart that consists of a dependency on another.
func umbrella(of *chart.Chart, values map[string]any) (*chart.Chart, error) {
	around := &chart.Chart{Metadata: &chart.Metadata{
		APIVersion: chart.APIVersionV2, Name: "umbrella", Version: "0.1.0",
		Dependencies: []*chart.Dependency{{Name: of.Name(), Version: "*", Condition: of.Name() + ".enabled"}},
	}}
	around.AddDependency(of)
	if err := chartutil.ProcessDependencies(around, values); err != nil {
		return nil, fmt.Errorf("process the umbrella chart's dependencies: %w", err)
	}
	return around, nil
}

// Values reads values files of the chart's folder; the later ones win.
func Values(files ...string) (map[string]any, error) {
	merged := map[string]any{}
	for _, name := range files {
		if !filepath.IsAbs(name) {
			name = filepath.Join(ChartDir(), name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		values, err := loader.LoadValues(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		merged = loader.MergeMaps(merged, values)
	}
	return merged, nil
}

// Documents splits YAML into its documents and leaves empty ones out.
func Documents(text string) ([]string, error) {
	var documents []string
	reader := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text)))
	defer func() { _ = reader.Close() }()
	buffer := make([]byte, len(text)+1)
	for {
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, err
		}
		var content any
		if err := yaml.Unmarshal(buffer[:n], &content); err != nil {
			return nil, err
		}
		if content != nil {
			documents = append(documents, string(buffer[:n]))
		}
	}
}

// Objects decodes the objects of rendered templates. An object of an unknown
// kind is an error, and so is a field that its type does not have.
func Objects(templates []Template) ([]runtime.Object, error) {
	decoder, err := strictDecoder()
	if err != nil {
		return nil, err
	}
	var objects []runtime.Object
	for _, t := range templates {
		if strings.HasSuffix(t.Name, ".txt") {
			continue
		}
		documents, err := Documents(t.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		for _, document := range documents {
			object, _, err := decoder.Decode([]byte(document), nil, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", t.Name, err, document)
			}
			objects = append(objects, object)
		}
	}
	return objects, nil
}

func strictDecoder() (runtime.Decoder, error) {
	known := runtime.NewScheme()
	err := errors.Join(scheme.AddToScheme(known), gatewayapi.Install(known), monitoring.AddToScheme(known))
	return serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer(), err
}
