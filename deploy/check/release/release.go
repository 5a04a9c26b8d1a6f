package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// versions is what a version looks like (semver.org, without build metadata, which
// no tag of an image may have).
var versions = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

// release is one being built.
type release struct {
	buildOptions
	source
	signer  *signer // nil: it is not signed
	modules string  // folder in which go keeps the modules' sources
	work    string  // folder for what is needed in between

	changes       []change
	architectures []string // of the image
	programs      map[platform][]program
	image         v1.Hash // digest of the image
	subjects      []subject
}

// Run builds the release.
func (o buildOptions) Run(ctx context.Context) (err error) {
	r := release{buildOptions: o, programs: map[platform][]program{}}
	if !versions.MatchString(o.Version) {
		return fmt.Errorf("version %q: expected such as 1.2.0 or 1.2.0-rc.1", o.Version)
	}
	if r.source, err = readSource(ctx, o.Source); err != nil {
		return err
	}
	if err := r.checkRelease(ctx, o.Version); err != nil {
		return err
	}
	if r.changes, err = r.source.changes(o.Version); err != nil {
		return err
	}
	if o.SigningKey != "" {
		if r.signer, err = newSigner(o.SigningKey); err != nil {
			return err
		}
	}
	if r.modules, err = run(exec.CommandContext(ctx, "go", "env", "GOMODCACHE")); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "release"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.work)) }()
	if err := errors.Join(os.RemoveAll(o.Output), os.MkdirAll(o.Output, 0o755)); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{r.buildPrograms, r.buildImage, r.buildChart, r.attest} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("%s is in %s; the image is %s/daemon-gateway@%s\n", o.Version, o.Output, o.Registry, r.image)
	return nil
}

// file returns the path of a file of the release, which has the version in its
// name.
func (r *release) file(end string) string {
	return filepath.Join(r.Output, "daemon-gateway_"+r.Version+"_"+end)
}

// buildPrograms compiles the programs, and packs those of each platform.
func (r *release) buildPrograms(ctx context.Context) error {
	for _, p := range r.Platforms {
		folder := filepath.Join(r.work, p.String())
		if err := r.compile(ctx, r.Version, p, r.Programs, folder); err != nil {
			return err
		}
		list, err := compiled(folder, r.Programs)
		if err != nil {
			return err
		}
		r.programs[p] = list
		top := "daemon-gateway_" + r.Version + "_" + p.String()
		var entries []entry
		for _, name := range []string{"CHANGELOG.md", "LICENSE"} {
			entries = append(entries, entry{name: top + "/" + name, mode: 0o644, path: filepath.Join(r.root, name)})
		}
		for _, one := range list {
			entries = append(entries, entry{name: top + "/" + one.name, mode: 0o755, path: one.path})
		}
		entries = append(entries, links(top+"/", list)...)
		if err := writeTarFile(r.file(p.String()+".tar.gz"), entries, r.created); err != nil {
			return err
		}
		b, err := ofPrograms(top, r.Version, r.created, r.modules, list)
		if err != nil {
			return err
		}
		if err := b.write(r.file(p.String() + ".spdx.json")); err != nil {
			return err
		}
	}
	return nil
}

// buildImage makes the image of the platforms that are Linux's.
func (r *release) buildImage(context.Context) error {
	images, digests, list := map[string]v1.Image{}, map[string]v1.Hash{}, map[string][]program{}
	for _, p := range r.Platforms {
		if p.os != "linux" {
			continue
		}
		image, err := r.source.image(r.Version, p.arch, r.programs[p], r.work)
		if err != nil {
			return err
		}
		if digests[p.arch], err = image.Digest(); err != nil {
			return err
		}
		images[p.arch], list[p.arch] = image, r.programs[p]
		r.architectures = append(r.architectures, p.arch)
	}
	index := r.index(r.Version, images, r.architectures)
	var err error
	if r.image, err = index.Digest(); err != nil {
		return err
	}
	reference := r.Registry + "/daemon-gateway"
	r.subjects = append(r.subjects, subject{reference, map[string]string{"sha256": r.image.Hex}})
	b, err := ofImage("daemon-gateway_"+r.Version+"_image", r.Version, r.created, r.modules, digests, list, r.architectures)
	if err != nil {
		return err
	}
	if err := b.write(r.file("image.spdx.json")); err != nil {
		return err
	}
	return writeLayout(r.file("image.tar"), r.work, r.created, func(target layout.Path) error {
		return errors.Join(target.AppendIndex(index, tag(r.Version)), r.appendSignature(target, reference, r.image))
	})
}

// appendSignature adds the signature of an image to a layout, if there is a key.
func (r *release) appendSignature(target layout.Path, reference string, digest v1.Hash) error {
	if r.signer == nil {
		return nil
	}
	signature, err := r.signer.image(reference, digest)
	if err != nil {
		return err
	}
	return target.AppendImage(signature, tag(signatureTag(digest)))
}

// buildChart packages the chart, as a file and as registries keep it.
func (r *release) buildChart(ctx context.Context) error {
	c, err := r.chart(ctx, r.Version, r.Registry+"/daemon-gateway", r.image, r.changes)
	if err != nil {
		return err
	}
	// `helm pull` calls it so.
	if err := os.WriteFile(filepath.Join(r.Output, "daemon-gateway-"+r.Version+".tgz"), c.archive, 0o644); err != nil {
		return err
	}
	image, err := c.image(r.created)
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	reference := r.Registry + "/charts/daemon-gateway"
	r.subjects = append(r.subjects, subject{reference, map[string]string{"sha256": digest.Hex}})
	return writeLayout(r.file("chart.tar"), r.work, r.created, func(target layout.Path) error {
		return errors.Join(target.AppendImage(image, tag(r.Version)), r.appendSignature(target, reference, digest))
	})
}

// attest writes where all of it comes from, its checksums, and signatures of both.
func (r *release) attest(ctx context.Context) error {
	files, err := r.subjectsOfFiles()
	if err != nil {
		return err
	}
	said, err := r.provenance(r.buildOptions, append(r.subjects, files...))
	if err != nil {
		return err
	}
	text, err := said.write(r.file("provenance.json"))
	if err != nil {
		return err
	}
	if r.signer != nil {
		signed, err := r.signer.envelope(ctx, text)
		if err != nil {
			return err
		}
		if err := os.WriteFile(r.file("provenance.intoto.jsonl"), append(signed, '\n'), 0o644); err != nil {
			return err
		}
	}
	if files, err = r.subjectsOfFiles(); err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		fmt.Fprintf(&sums, "%s  %s\n", f.Digest["sha256"], f.Name)
	}
	checksums := filepath.Join(r.Output, "SHA256SUMS")
	if err := os.WriteFile(checksums, []byte(sums.String()), 0o644); err != nil || r.signer == nil {
		return err
	}
	signature, err := r.signer.sign([]byte(sums.String()))
	if err != nil {
		return err
	}
	return os.WriteFile(checksums+".sig", signature, 0o644)
}

// subjectsOfFiles returns the files that are there, by name, with their digests.
func (r *release) subjectsOfFiles() ([]subject, error) {
	found, err := os.ReadDir(r.Output)
	if err != nil {
		return nil, err
	}
	var list []subject
	for _, f := range found {
		digest, err := digestOf(filepath.Join(r.Output, f.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, subject{f.Name(), map[string]string{"sha256": digest}})
	}
	return list, nil
}
