package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is numeric, so that Kubernetes can see that it is not root.
const user = "65532:65532"

// authorities is the path of the certificates of public authorities in the image,
// where Go looks for them.
const authorities = "etc/ssl/certs/ca-certificates.crt"

// ports are those of the image: daemons, the intake, gossip, administration.
var ports = []string{"8080/tcp", "8081/tcp", "7946/tcp", "7946/udp", "9090/tcp"}

// labels are those of the Dockerfile.
func (s source) labels(version string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "Daemon Gateway",
		"org.opencontainers.image.description": "Edge, router and publisher bridge of the Daemon Gateway",
		"org.opencontainers.image.vendor":      "Neolith",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      repository,
		"org.opencontainers.image.version":     version,
		"org.opencontainers.image.revision":    s.revision,
		"org.opencontainers.image.created":     s.created.Format(time.RFC3339),
	}
}

// mozillas returns the authorities that Mozilla trusts without restriction, as PEM.
// One that it trusts for certificates of a certain time alone is left out: a file of
// certificates cannot say that.
func mozillas() []byte {
	var text []byte
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
		}
	}
	return text
}

// image returns the image of one architecture: programs, and the certificates of
// public authorities. Its layer is compressed into a file in work, which must be
// there for as long as the image is.
func (s source) image(version, arch string, list []program, work string) (v1.Image, error) {
	entries := []entry{{name: authorities, mode: 0o644, content: mozillas()}}
	for _, p := range list {
		entries = append(entries, entry{name: p.name, mode: 0o755, path: p.path})
	}
	entries = append(entries, links("", list)...)
	compressed := filepath.Join(work, "layer-"+arch+".tar.gz")
	if err := writeTarFile(compressed, entries, s.created); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromFile(compressed, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	exposed := map[string]struct{}{}
	for _, port := range ports {
		exposed[port] = struct{}{}
	}
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		Architecture: arch, OS: "linux", Created: v1.Time{Time: s.created}, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User: user, ExposedPorts: exposed, Env: []string{"PATH=/"}, Cmd: []string{"/edge", "--help"}, Labels: s.labels(version),
		},
	})
	if err != nil {
		return nil, err
	}
	base = mutate.ConfigMediaType(mutate.MediaType(base, types.OCIManifestSchema1), types.OCIConfigJSON)
	return mutate.Append(base, mutate.Addendum{
		Layer: layer, History: v1.History{Created: v1.Time{Time: s.created}, CreatedBy: "deploy/check/release"},
	})
}

// index returns one image for several architectures.
func (s source) index(version string, images map[string]v1.Image, architectures []string) v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range architectures {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: images[arch], Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return mutate.Annotations(index, s.labels(version)).(v1.ImageIndex)
}

// tag is the annotation by which tools find what an image layout holds.
func tag(of string) layout.Option {
	return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": of})
}

// writeLayout writes an OCI image layout, which fill fills, as a single file.
func writeLayout(file, work string, at time.Time, fill func(layout.Path) error) error {
	folder, err := os.MkdirTemp(work, "layout")
	if err != nil {
		return err
	}
	target, err := layout.Write(folder, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	if err := fill(target); err != nil {
		return err
	}
	var entries []entry
	err = fs.WalkDir(os.DirFS(folder), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			entries = append(entries, entry{name: name, mode: 0o644, path: filepath.Join(folder, filepath.FromSlash(name))})
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := writeTarFile(file, entries, at); err != nil {
		return err
	}
	return os.RemoveAll(folder)
}

// Run builds the image of one architecture from what is here, committed or not.
func (o imageOptions) Run(ctx context.Context) error {
	reference, err := name.NewTag(o.Name)
	if err != nil {
		return err
	}
	s, err := readSource(ctx, o.Source)
	if err != nil {
		// An image can be built from an archive of the source.
		s = source{root: o.Source, revision: "unknown", created: time.Unix(0, 0).UTC()}
	}
	work, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := s.compile(ctx, o.Version, platform{"linux", o.Arch}, programs, work); err != nil {
		return err
	}
	list, err := compiled(work, programs)
	if err != nil {
		return err
	}
	image, err := s.image(o.Version, o.Arch, list, work)
	if err != nil {
		return err
	}
	// A file that is there is only ever replaced as a whole.
	if err := tarball.WriteToFile(o.Output+".part", reference, image); err != nil {
		return fmt.Errorf("write %s.part: %w", o.Output, err)
	}
	return os.Rename(o.Output+".part", o.Output)
}
