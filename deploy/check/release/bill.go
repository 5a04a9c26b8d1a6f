package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/licensecheck"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"golang.org/x/mod/module"
)

// bill says what something consists of, in the form of SPDX 2.3: programs, the
// modules that they were compiled from, and what else is in the image. What a
// program is made of, it says itself (go version -m).
type bill struct {
	spdx.Document
	modules string // folder in which go keeps the modules' sources
	known   map[common.ElementID]bool
}

const unknown = "NOASSERTION"

// newBill returns a bill of a file of the release.
func newBill(of, version string, created time.Time, modules string) *bill {
	return &bill{modules: modules, known: map[common.ElementID]bool{}, Document: spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: of,
		DocumentNamespace: repository + "/releases/download/v" + version + "/" + of + ".spdx.json",
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "Neolith"}, {CreatorType: "Tool", Creator: "deploy/check/release"}},
			Created:  created.Format(time.RFC3339),
		},
	}}
}

// outside are the bytes that no identifier of SPDX has.
var outside = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

// add enters a package, unless it is there, and returns its identifier.
func (b *bill) add(kind string, p spdx.Package) common.ElementID {
	id := common.ElementID(kind + "-" + outside.ReplaceAllString(p.PackageName+"-"+p.PackageVersion, "-"))
	if b.known[id] {
		return id
	}
	b.known[id] = true
	p.PackageSPDXIdentifier, p.PackageCopyrightText, p.PackageLicenseConcluded = id, unknown, unknown
	for _, text := range []*string{&p.PackageDownloadLocation, &p.PackageLicenseDeclared} {
		if *text == "" {
			*text = unknown
		}
	}
	b.Packages = append(b.Packages, &p)
	return id
}

func (b *bill) relate(from common.ElementID, how string, to common.ElementID) {
	b.Relationships = append(b.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: how,
	})
}

// reference is a package URL (purl), by which scanners find what is known of it.
func reference(purl string) []*spdx.PackageExternalReference {
	return []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl}}
}

// program enters a program and what it was compiled from; where is its path in the
// archive or image.
func (b *bill) program(p program, version, where string) (common.ElementID, error) {
	digest, err := digestOf(p.path)
	if err != nil {
		return "", err
	}
	id := b.add("Program", spdx.Package{
		PackageName: where, PackageVersion: version, PackageFileName: where, PackageLicenseDeclared: "Apache-2.0",
		PrimaryPackagePurpose: "APPLICATION", PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: digest}},
		PackageDownloadLocation:   repository,
		PackageExternalReferences: reference("pkg:golang/github.com/neolith/daemon-gateway@v" + version + "#cmd/" + p.name),
	})
	library := strings.TrimPrefix(p.info.GoVersion, "go")
	b.relate(id, common.TypeRelationshipDependsOn, b.add("Module", spdx.Package{
		PackageName: "stdlib", PackageVersion: library, PackageLicenseDeclared: "BSD-3-Clause", PrimaryPackagePurpose: "LIBRARY",
		PackageDownloadLocation: "https://go.dev/dl/", PackageExternalReferences: reference("pkg:golang/stdlib@" + library),
	}))
	for _, m := range p.info.Deps {
		b.relate(id, common.TypeRelationshipDependsOn, b.module(m))
	}
	return id, nil
}

// module enters a module of Go.
func (b *bill) module(m *debug.Module) common.ElementID {
	if m.Replace != nil {
		m = m.Replace
	}
	return b.add("Module", spdx.Package{
		PackageName: m.Path, PackageVersion: m.Version, PackageLicenseDeclared: b.license(m), PrimaryPackagePurpose: "LIBRARY",
		PackageDownloadLocation: "https://" + m.Path, PackageExternalReferences: reference("pkg:golang/" + strings.ToLower(m.Path) + "@" + m.Version),
		PackageComment: "go.sum: " + m.Sum,
	})
}

// licenseFiles are where modules say under which terms they are given.
var licenseFiles = []string{"LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "COPYING", "License", "LICENSE-APACHE-2.0.txt", "UNLICENSE"}

// license returns the license of a module as an expression of SPDX, or that it is
// not known.
func (b *bill) license(m *debug.Module) string {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return unknown
	}
	var found []string
	for _, name := range licenseFiles {
		text, err := os.ReadFile(filepath.Join(b.modules, path+"@"+m.Version, name))
		if err != nil {
			continue
		}
		// More than a notice of the authors beside it would be other terms.
		const most = 80
		if cover := licensecheck.Scan(text); cover.Percent >= most {
			for _, match := range cover.Match {
				found = append(found, match.ID)
			}
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 0 {
		return unknown
	}
	return strings.Join(found, " AND ")
}

// describes says that the bill is of these.
func (b *bill) describes(ids ...common.ElementID) {
	for _, id := range ids {
		b.relate("DOCUMENT", common.TypeRelationshipDescribe, id)
	}
}

// ofPrograms returns the bill of an archive of programs.
func ofPrograms(name, version string, created time.Time, modules string, list []program) (*bill, error) {
	b := newBill(name, version, created, modules)
	for _, p := range list {
		id, err := b.program(p, version, p.name)
		if err != nil {
			return nil, err
		}
		b.describes(id)
	}
	return b, nil
}

// ofImage returns the bill of the image: its architectures, and what is in each.
func ofImage(name, version string, created time.Time, modules string, digests map[string]v1.Hash, programs map[string][]program, architectures []string) (*bill, error) {
	b := newBill(name, version, created, modules)
	roots := b.add("File", spdx.Package{
		PackageName: "/" + authorities, PackageVersion: rootsVersion(), PackageLicenseDeclared: "MPL-2.0", PrimaryPackagePurpose: "FILE",
		PackageDownloadLocation:   "https://golang.org/x/crypto/x509roots/fallback",
		PackageExternalReferences: reference("pkg:golang/golang.org/x/crypto/x509roots/fallback@" + rootsVersion()),
		PackageSummary:            "Certificates of the authorities that Mozilla trusts",
	})
	for _, arch := range architectures {
		digest := digests[arch]
		image := b.add("Image", spdx.Package{
			PackageName: "daemon-gateway-linux-" + arch, PackageVersion: version, PackageLicenseDeclared: "Apache-2.0",
			PrimaryPackagePurpose: "CONTAINER", PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: digest.Hex}},
			PackageExternalReferences: reference("pkg:oci/daemon-gateway@" + strings.ReplaceAll(digest.String(), ":", "%3A") + "?arch=" + arch + "&tag=" + version),
		})
		b.describes(image)
		b.relate(image, common.TypeRelationshipContains, roots)
		for _, p := range programs[arch] {
			id, err := b.program(p, version, "linux-"+arch+"/"+p.name)
			if err != nil {
				return nil, err
			}
			b.relate(image, common.TypeRelationshipContains, id)
		}
	}
	return b, nil
}

// rootsVersion is the version of the certificates of authorities.
func rootsVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "golang.org/x/crypto/x509roots/fallback" {
				return m.Version
			}
		}
	}
	return unknown // in a test, which is no build of a release
}

func (b *bill) write(file string) error {
	var text bytes.Buffer
	if err := json.Write(&b.Document, &text); err != nil {
		return err
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}

// digestOf returns the SHA-256 of a file in hexadecimal.
func digestOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}
