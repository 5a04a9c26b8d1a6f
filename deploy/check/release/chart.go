package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"sigs.k8s.io/yaml"
)

const chartFolder = "helm/daemon-gateway"

// Media types of charts in registries (helm.sh/docs/topics/registries).
const (
	chartConfig  types.MediaType = "application/vnd.cncf.helm.config.v1+json"
	chartContent types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// digestAnnotation of Chart.yaml has the digest of the chart's image, which the
// chart takes where the values name neither tag nor digest.
const digestAnnotation = "daemon-gateway/image-digest"

// chart is a chart that is ready to be installed.
type chart struct {
	metadata map[string]any // what its Chart.yaml says
	archive  []byte
}

// chart packages the chart for a version and an image.
func (s source) chart(ctx context.Context, version, image string, digest v1.Hash, changes []change) (chart, error) {
	names, err := s.files(ctx, chartFolder)
	if err != nil {
		return chart{}, err
	}
	var c chart
	var entries []entry
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(name)))
		if err != nil {
			return chart{}, err
		}
		inside := strings.TrimPrefix(name, chartFolder+"/")
		switch inside {
		case "Chart.yaml":
			content, err = c.describe(content, version, image, digest, changes)
		case "values.yaml":
			content, err = withRepository(content, image)
		}
		if err != nil {
			return chart{}, fmt.Errorf("%s: %w", name, err)
		}
		entries = append(entries, entry{name: path.Join("daemon-gateway", inside), mode: 0o644, content: content})
	}
	file, err := os.CreateTemp("", "chart-*.tgz")
	if err != nil {
		return chart{}, err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if err := file.Close(); err != nil {
		return chart{}, err
	}
	if err := writeTarFile(file.Name(), entries, s.created); err != nil {
		return chart{}, err
	}
	c.archive, err = os.ReadFile(file.Name())
	return c, err
}

// describe says in Chart.yaml what is released.
func (c *chart) describe(content []byte, version, image string, digest v1.Hash, changes []change) ([]byte, error) {
	if err := yaml.Unmarshal(content, &c.metadata); err != nil {
		return nil, err
	}
	annotations, ok := c.metadata["annotations"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("expected annotations")
	}
	images, err := yaml.Marshal([]map[string]any{{
		"name": "daemon-gateway", "image": image + ":" + version + "@" + digest.String(), "platforms": []string{"linux/amd64", "linux/arm64"},
	}})
	if err != nil {
		return nil, err
	}
	changed, err := yaml.Marshal(changes)
	if err != nil {
		return nil, err
	}
	c.metadata["version"], c.metadata["appVersion"] = version, version
	annotations[digestAnnotation] = digest.String()
	annotations["artifacthub.io/images"] = string(images)
	annotations["artifacthub.io/changes"] = string(changed)
	annotations["artifacthub.io/prerelease"] = fmt.Sprint(strings.Contains(version, "-"))
	return yaml.Marshal(c.metadata)
}

// withRepository names the image in the values.
func withRepository(values []byte, image string) ([]byte, error) {
	before := []byte("  repository: daemon-gateway\n")
	if bytes.Count(values, before) != 1 {
		return nil, fmt.Errorf("expected one line %q", before)
	}
	return bytes.Replace(values, before, []byte("  repository: "+image+"\n"), 1), nil
}

// artefact is anything that a registry keeps as an image with a single layer.
type artefact struct {
	manifest, config []byte
	layer            v1.Layer
}

// RawConfigFile implements partial.CompressedImageCore.
func (a artefact) RawConfigFile() ([]byte, error) { return a.config, nil }

// MediaType implements partial.CompressedImageCore.
func (a artefact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest implements partial.CompressedImageCore.
func (a artefact) RawManifest() ([]byte, error) { return a.manifest, nil }

// LayerByDigest implements partial.CompressedImageCore.
func (a artefact) LayerByDigest(v1.Hash) (partial.CompressedLayer, error) { return a.layer, nil }

// newArtefact returns one with a configuration, a layer, and annotations of both
// the whole and the layer.
func newArtefact(kind types.MediaType, config []byte, layer v1.Layer, ofLayer, annotations map[string]string) (v1.Image, error) {
	configDigest, configSize, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	content, err := partial.Descriptor(layer)
	if err != nil {
		return nil, err
	}
	content.Annotations = ofLayer
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Annotations: annotations,
		Config: v1.Descriptor{MediaType: kind, Digest: configDigest, Size: configSize},
		Layers: []v1.Descriptor{*content},
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(artefact{manifest, config, layer})
}

// image is the chart as registries keep it, as `helm push` would make it.
func (c chart) image(created time.Time) (v1.Image, error) {
	config, err := json.Marshal(c.metadata)
	if err != nil {
		return nil, err
	}
	text := func(key string) string { return fmt.Sprint(c.metadata[key]) }
	return newArtefact(chartConfig, config, static.NewLayer(c.archive, chartContent), nil, map[string]string{
		"org.opencontainers.image.title":       text("name"),
		"org.opencontainers.image.version":     text("version"),
		"org.opencontainers.image.description": text("description"),
		"org.opencontainers.image.url":         text("home"),
		"org.opencontainers.image.source":      repository,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.created":     created.Format(time.RFC3339),
	})
}
