package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// The media types of the OCI image specification.
const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// user is numeric, so that Kubernetes can see that it is not root.
const user = "65532:65532"

// image is what an archive says of itself.
type image struct {
	name, version, revision, arch string
	created                       time.Time
}

// labels are those of the Dockerfile.
func (i image) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "Daemon Gateway",
		"org.opencontainers.image.description": "Edge, router and publisher bridge of the Daemon Gateway",
		"org.opencontainers.image.vendor":      "Neolith",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      "https://github.com/neolith/daemon-gateway",
		"org.opencontainers.image.version":     i.version,
		"org.opencontainers.image.revision":    i.revision,
		"org.opencontainers.image.created":     i.created.Format(time.RFC3339),
	}
}

// reference is the name in full, which is what containerd looks for.
func (i image) reference() string {
	first, _, hasHost := strings.Cut(i.name, "/")
	switch {
	case hasHost && (strings.ContainsAny(first, ".:") || first == "localhost"):
		return i.name
	case hasHost:
		return "docker.io/" + i.name
	}
	return "docker.io/library/" + i.name
}

type runConfig struct {
	User         string
	ExposedPorts map[string]struct{}
	Env          []string
	Cmd          []string
	Labels       map[string]string
}

type imageConfig struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       runConfig `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// dockerManifest is an entry of manifest.json, which docker load reads.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// entry is a file of the archive.
type entry struct {
	name    string
	content []byte
}

// archive is the image as one file. It grows by blobs, each of which the
// following ones refer to.
type archive struct {
	entries []entry
}

func newArchive(i image, l layer) (*archive, error) {
	a := &archive{}
	layer := a.blob(mediaLayer, l.compressed)
	config, err := a.json(mediaConfig, i.config(l.diffID))
	if err != nil {
		return nil, err
	}
	top, err := a.json(mediaManifest, manifest{SchemaVersion: 2, MediaType: mediaManifest, Config: &config, Layers: []descriptor{layer}})
	if err != nil {
		return nil, err
	}
	_, tag, _ := strings.Cut(i.name[strings.LastIndex(i.name, "/")+1:], ":")
	top.Annotations = map[string]string{"io.containerd.image.name": i.reference(), "org.opencontainers.image.ref.name": tag}
	index := manifest{SchemaVersion: 2, MediaType: mediaIndex, Manifests: []descriptor{top}}
	docker := []dockerManifest{{Config: blobName(config.Digest), RepoTags: []string{i.name}, Layers: []string{blobName(layer.Digest)}}}
	return a, errors.Join(
		a.file("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}),
		a.file("index.json", index),
		a.file("manifest.json", docker),
	)
}

func (a *archive) file(name string, value any) error {
	content, err := json.Marshal(value)
	a.entries = append(a.entries, entry{name, content})
	return err
}

func (i image) config(diffID string) imageConfig {
	c := imageConfig{Created: i.created, Architecture: i.arch, OS: "linux", Config: runConfig{
		User:         user,
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "7946/tcp": {}, "7946/udp": {}, "9090/tcp": {}},
		Env:          []string{"PATH=/"},
		Cmd:          []string{"/edge", "--help"},
		Labels:       i.labels(),
	}}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{diffID}
	return c
}

func (a *archive) blob(mediaType string, content []byte) descriptor {
	digest := sha256.Sum256(content)
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(digest[:]), Size: len(content)}
	a.entries = append(a.entries, entry{blobName(d.Digest), content})
	return d
}

func (a *archive) json(mediaType string, value any) (descriptor, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	return a.blob(mediaType, content), nil
}

func blobName(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

// writeTo writes the archive; a file that is there is only ever replaced as a
// whole.
func (a *archive) writeTo(path string) (err error) {
	output, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(output.Name())
		}
	}()
	if err = a.write(tar.NewWriter(output)); err != nil {
		_ = output.Close()
		return fmt.Errorf("write %s: %w", output.Name(), err)
	}
	if err = output.Close(); err != nil {
		return err
	}
	return os.Rename(output.Name(), path)
}

func (a *archive) write(w *tar.Writer) error {
	made := map[string]bool{".": true}
	if err := addFolders(w, "blobs/sha256", made); err != nil {
		return err
	}
	for _, e := range a.entries {
		if err := addEntry(w, tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644}, e.content); err != nil {
			return err
		}
	}
	return w.Close()
}
