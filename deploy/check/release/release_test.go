package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	attestation "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"
)

// version is the release of the tests: the changelog has to have it.
const version = "0.1.0"

// here is the platform of the tests' releases.
var here = platform{"linux", runtime.GOARCH}

// git runs git in a repository of the tests, where everything that is committed is
// of one author and time.
func git(t *testing.T, folder string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", folder, "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z", "GIT_CONFIG_GLOBAL=/dev/null")
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, string(output))
}

// checkout is a repository of its own with all that is here as its only commit.
func checkout(t *testing.T, folder string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), folder)
	source := os.DirFS("../../..")
	require.NoError(t, fs.WalkDir(source, ".", func(path string, d fs.DirEntry, err error) error {
		target := filepath.Join(root, filepath.FromSlash(path))
		switch {
		case err != nil:
			return err
		case slices.Contains([]string{".git", "bin", "dist", "data"}, path):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		}
		content, err := fs.ReadFile(source, path)
		if err != nil {
			return err
		}
		about, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, about.Mode().Perm())
	}))
	git(t, root, "init", "--quiet")
	git(t, root, "add", "--all")
	git(t, root, "commit", "--quiet", "--message", "all")
	return root
}

func keyFile(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return file
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// built is a release that the test has built.
type built struct {
	t      *testing.T
	folder string
	key    *ecdsa.PrivateKey
	root   string // of what it was built from
}

// build builds the smallest release that has everything: one program for one
// platform.
func build(t *testing.T, root string, key *ecdsa.PrivateKey) built {
	t.Helper()
	o := buildOptions{
		Version: version, Output: filepath.Join(t.TempDir(), "release"), Registry: "registry.example.com/neolith", Builder: "https://example.com/builder",
		SigningKey: keyFile(t, key), Source: root, Platforms: []platform{here}, Programs: []string{"gateway-admin"},
	}
	require.NoError(t, o.Run(t.Context()))
	return built{t, o.Output, key, root}
}

// files returns the digests of all files of the release.
func (b built) files() map[string]string {
	b.t.Helper()
	found, err := os.ReadDir(b.folder)
	require.NoError(b.t, err)
	files := map[string]string{}
	for _, f := range found {
		digest, err := digestOf(filepath.Join(b.folder, f.Name()))
		require.NoError(b.t, err)
		files[f.Name()] = digest
	}
	return files
}

func (b built) read(file string) []byte {
	b.t.Helper()
	content, err := os.ReadFile(filepath.Join(b.folder, file))
	require.NoError(b.t, err)
	return content
}

func (b built) verify(text, signature []byte) {
	b.t.Helper()
	digest := sha256.Sum256(text)
	require.True(b.t, ecdsa.VerifyASN1(&b.key.PublicKey, digest[:], signature))
}

// unpack returns the files of an archive, which may be compressed, by name.
func unpack(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(content)
	if bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		plain, err := gzip.NewReader(r)
		require.NoError(t, err)
		r = plain
	}
	files := map[string][]byte{}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return files
		}
		require.NoError(t, err)
		require.True(t, header.Uid == 0 && header.Uname == "", header.Name)
		if header.Typeflag == tar.TypeReg {
			files[header.Name], err = io.ReadAll(archive)
			require.NoError(t, err)
		}
	}
}

// layout unpacks an image layout, and returns what it holds by tag.
func (b built) layout(file string) (v1.ImageIndex, map[string]v1.Hash) {
	b.t.Helper()
	folder := b.t.TempDir()
	for path, content := range unpack(b.t, b.read(file)) {
		target := filepath.Join(folder, path)
		require.NoError(b.t, os.MkdirAll(filepath.Dir(target), 0o755))
		require.NoError(b.t, os.WriteFile(target, content, 0o600))
	}
	index, err := layout.ImageIndexFromPath(folder)
	require.NoError(b.t, err)
	manifest, err := index.IndexManifest()
	require.NoError(b.t, err)
	held := map[string]v1.Hash{}
	for _, m := range manifest.Manifests {
		held[m.Annotations["org.opencontainers.image.ref.name"]] = m.Digest
	}
	return index, held
}

// Two builds of a commit in different folders have the same bytes, and what they
// say of themselves is true.
func TestACommitGivesTheSameReleaseWhereverItIsBuilt(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	one := build(t, checkout(t, "here"), key)
	other := build(t, checkout(t, "another/folder/with a longer name"), key)
	require.Equal(t, one.files(), other.files())

	top := "daemon-gateway_" + version + "_"
	require.ElementsMatch(t, []string{
		top + here.String() + ".tar.gz", top + here.String() + ".spdx.json", top + "image.tar", top + "image.spdx.json", top + "chart.tar",
		"daemon-gateway-" + version + ".tgz", top + "provenance.json", top + "provenance.intoto.jsonl", "SHA256SUMS", "SHA256SUMS.sig",
	}, slices.Collect(func(yield func(string) bool) {
		for name := range one.files() {
			if !yield(name) {
				return
			}
		}
	}))
	for name, test := range map[string]func(*testing.T, built){
		"checksums": checksums, "image": image, "chart": packagedChart, "bills of materials": bills, "provenance": provenance,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := one
			b.t = t
			test(t, b)
		})
	}
}

func checksums(t *testing.T, b built) {
	sums := b.read("SHA256SUMS")
	b.verify(sums, b.read("SHA256SUMS.sig"))
	want := b.files()
	delete(want, "SHA256SUMS")
	delete(want, "SHA256SUMS.sig")
	have := map[string]string{}
	for line := range strings.Lines(string(sums)) {
		digest, file, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		have[file] = digest
	}
	require.Equal(t, want, have)
}

func image(t *testing.T, b built) {
	top, held := b.layout("daemon-gateway_" + version + "_image.tar")
	index, err := top.ImageIndex(held[version])
	require.NoError(t, err)
	require.NoError(t, validate.Index(index))
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1)
	require.Equal(t, &v1.Platform{OS: "linux", Architecture: here.arch}, manifest.Manifests[0].Platform)
	image, err := index.Image(manifest.Manifests[0].Digest)
	require.NoError(t, err)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, version, config.Config.Labels["org.opencontainers.image.version"])
	require.Equal(t, "2026-01-02T03:04:05Z", config.Config.Labels["org.opencontainers.image.created"])

	layers, err := image.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	layer, err := layers[0].Compressed()
	require.NoError(t, err)
	content, err := io.ReadAll(layer)
	require.NoError(t, err)
	files := unpack(t, content)
	require.Len(t, files, 2, "a program and certificates, and nothing else: no shell")
	require.NotEmpty(t, files["gateway-admin"])
	require.True(t, x509.NewCertPool().AppendCertsFromPEM(files[authorities]))
	require.Greater(t, bytes.Count(files[authorities], []byte("BEGIN CERTIFICATE")), 80)

	b.signed(top, held, held[version], "registry.example.com/neolith/daemon-gateway")
}

// signed expects the signature of an image beside it, as cosign wants it.
func (b built) signed(top v1.ImageIndex, held map[string]v1.Hash, digest v1.Hash, reference string) {
	b.t.Helper()
	require.Len(b.t, held, 2)
	signature, err := top.Image(held["sha256-"+digest.Hex+".sig"])
	require.NoError(b.t, err)
	require.NoError(b.t, validate.Image(signature, validate.Fast))
	manifest, err := signature.Manifest()
	require.NoError(b.t, err)
	layer, err := signature.LayerByDigest(manifest.Layers[0].Digest)
	require.NoError(b.t, err)
	content, err := layer.Compressed()
	require.NoError(b.t, err)
	payload, err := io.ReadAll(content)
	require.NoError(b.t, err)
	require.JSONEq(b.t, `{"critical":{"identity":{"docker-reference":"`+reference+`"},"image":{"docker-manifest-digest":"`+digest.String()+
		`"},"type":"cosign container image signature"},"optional":null}`, string(payload))
	raw, err := base64.StdEncoding.DecodeString(manifest.Layers[0].Annotations["dev.cosignproject.cosign/signature"])
	require.NoError(b.t, err)
	b.verify(payload, raw)
}

func packagedChart(t *testing.T, b built) {
	archive := b.read("daemon-gateway-" + version + ".tgz")
	files := unpack(t, archive)
	_, images := b.layout("daemon-gateway_" + version + "_image.tar")
	var metadata struct {
		Version, AppVersion, Icon string
		Maintainers               []map[string]string
		Annotations               map[string]string
	}
	require.NoError(t, yaml.Unmarshal(files["daemon-gateway/Chart.yaml"], &metadata))
	require.Equal(t, version, metadata.Version)
	require.Equal(t, version, metadata.AppVersion)
	require.NotEmpty(t, metadata.Icon)
	require.NotEmpty(t, metadata.Maintainers)
	require.Equal(t, images[version].String(), metadata.Annotations[digestAnnotation])
	require.Contains(t, metadata.Annotations["artifacthub.io/images"], "registry.example.com/neolith/daemon-gateway:"+version+"@"+images[version].String())
	var changes []change
	require.NoError(t, yaml.Unmarshal([]byte(metadata.Annotations["artifacthub.io/changes"]), &changes))
	require.NotEmpty(t, changes)
	require.Contains(t, string(files["daemon-gateway/values.yaml"]), "\n  repository: registry.example.com/neolith/daemon-gateway\n")
	for _, file := range []string{"values.schema.json", "README.md", "templates/tiers.yaml", "files/nats/authorization.conf"} {
		want, err := os.ReadFile(filepath.Join(b.root, chartFolder, file))
		require.NoError(t, err)
		require.Equal(t, string(want), string(files["daemon-gateway/"+file]))
	}

	loaded, err := loader.LoadArchive(bytes.NewReader(archive))
	require.NoError(t, err)
	require.NoError(t, loaded.Validate(), "Helm takes it")

	top, held := b.layout("daemon-gateway_" + version + "_chart.tar")
	chart, err := top.Image(held[version])
	require.NoError(t, err)
	manifest, err := chart.Manifest()
	require.NoError(t, err)
	require.EqualValues(t, "application/vnd.cncf.helm.config.v1+json", manifest.Config.MediaType)
	require.EqualValues(t, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", manifest.Layers[0].MediaType)
	sum := sha256.Sum256(archive)
	require.Equal(t, hex.EncodeToString(sum[:]), manifest.Layers[0].Digest.Hex)
	config, err := chart.RawConfigFile()
	require.NoError(t, err)
	var said map[string]any
	require.NoError(t, json.Unmarshal(config, &said))
	require.Equal(t, version, said["version"])
	b.signed(top, held, held[version], "registry.example.com/neolith/charts/daemon-gateway")
}

func bills(t *testing.T, b built) {
	top := "daemon-gateway_" + version + "_"
	program := unpack(t, b.read(top+here.String()+".tar.gz"))[top+here.String()+"/gateway-admin"]
	sum := sha256.Sum256(program)
	for _, file := range []string{here.String(), "image"} {
		document, err := spdxjson.Read(bytes.NewReader(b.read(top + file + ".spdx.json")))
		require.NoError(t, err)
		require.NoError(t, spdxlib.ValidateDocument(document))
		described, err := spdxlib.GetDescribedPackageIDs(document)
		require.NoError(t, err)
		require.Len(t, described, 1)
		var found, nats int
		for _, p := range document.Packages {
			if p.PrimaryPackagePurpose == "APPLICATION" {
				found++
				require.Equal(t, hex.EncodeToString(sum[:]), p.PackageChecksums[0].Value)
			}
			if p.PackageName == "github.com/nats-io/nats.go" {
				nats++
				require.Equal(t, "Apache-2.0", p.PackageLicenseDeclared)
				require.Equal(t, "pkg:golang/github.com/nats-io/nats.go@"+p.PackageVersion, p.PackageExternalReferences[0].Locator)
			}
		}
		require.Equal(t, 1, found)
		require.Equal(t, 1, nats)
	}
}

func provenance(t *testing.T, b built) {
	text := bytes.TrimSpace(b.read("daemon-gateway_" + version + "_provenance.json"))
	var said attestation.Statement
	require.NoError(t, protojson.Unmarshal(text, &said), "every field is one of in-toto's")
	require.NoError(t, said.Validate())
	require.Equal(t, "https://slsa.dev/provenance/v1", said.GetPredicateType())
	have := map[string]string{}
	for _, s := range said.GetSubject() {
		have[s.GetName()] = s.GetDigest()["sha256"]
	}
	_, images := b.layout("daemon-gateway_" + version + "_image.tar")
	_, charts := b.layout("daemon-gateway_" + version + "_chart.tar")
	want := b.files()
	want["registry.example.com/neolith/daemon-gateway"] = images[version].Hex
	want["registry.example.com/neolith/charts/daemon-gateway"] = charts[version].Hex
	for _, file := range []string{"SHA256SUMS", "SHA256SUMS.sig", "daemon-gateway_" + version + "_provenance.json", "daemon-gateway_" + version + "_provenance.intoto.jsonl"} {
		delete(want, file)
	}
	require.Equal(t, want, have)
	revision, err := source{root: b.root}.git(t.Context(), "rev-parse", "HEAD")
	require.NoError(t, err)
	require.Contains(t, string(text), `{"gitCommit":"`+revision+`"}`)
	require.Contains(t, string(text), `"uri":"pkg:generic/go@`+runtime.Version()+`"`)
	require.NotContains(t, string(text), b.root)

	var envelope dsse.Envelope
	require.NoError(t, json.Unmarshal(b.read("daemon-gateway_"+version+"_provenance.intoto.jsonl"), &envelope))
	verifier, err := dsse.NewEnvelopeVerifier(&signer{b.key})
	require.NoError(t, err)
	accepted, err := verifier.Verify(t.Context(), &envelope)
	require.NoError(t, err)
	require.Len(t, accepted, 1)
	payload, err := envelope.DecodeB64Payload()
	require.NoError(t, err)
	require.Equal(t, string(text), string(payload))
}

// What would not be what it says is not built.
func TestWhatIsNoReleaseIsRefused(t *testing.T) {
	t.Parallel()
	root := checkout(t, "source")
	refused := func(version, key string) string {
		o := buildOptions{Version: version, Output: filepath.Join(t.TempDir(), "release"), Source: root, SigningKey: key}
		err := o.Run(t.Context())
		require.Error(t, err)
		require.NoDirExists(t, o.Output)
		return err.Error()
	}
	require.Contains(t, refused("v"+version, ""), "expected such as 1.2.0")
	require.Contains(t, refused(version+"+build", ""), "expected such as 1.2.0")
	require.Contains(t, refused("99.0.0", ""), `expected a section "## 99.0.0 - `)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	require.Contains(t, refused(version, keyFile(t, p384)), "expected an ECDSA key on P-256")

	git(t, root, "tag", "v"+version)
	require.NoError(t, os.WriteFile(filepath.Join(root, "new"), []byte("new"), 0o600))
	require.Contains(t, refused(version, ""), "not committed")
	git(t, root, "add", "new")
	git(t, root, "commit", "--quiet", "--message", "more")
	require.Contains(t, refused(version, ""), "v"+version+" is commit")
}

func TestTheImageOfOneArchitectureIsWhatDockerLoads(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	s := source{revision: "abc"}
	path := filepath.Join(work, "edge")
	require.NoError(t, os.WriteFile(path, []byte("a program"), 0o600))
	image, err := s.image("1.2.3", "arm64", []program{{name: "edge", path: path}}, work)
	require.NoError(t, err)
	reference, err := name.NewTag("daemon-gateway:1.2.3")
	require.NoError(t, err)
	file := filepath.Join(work, "image.tar")
	require.NoError(t, tarball.WriteToFile(file, reference, image))
	loaded, err := tarball.ImageFromPath(file, &reference)
	require.NoError(t, err)
	require.NoError(t, validate.Image(loaded))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(unpack(t, content)["manifest.json"]), `"RepoTags":["daemon-gateway:1.2.3"]`)
}

// Scripts that call backups and the probe by the names that they had go on working.
func TestTheOldNamesAreLinksToGatewayctl(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("a program"), 0o600))
	var packed bytes.Buffer
	list := []program{{name: "edge", path: path}, {name: "gatewayctl", path: path}}
	require.NoError(t, writeTar(&packed, links("top/", list), time.Unix(0, 0)))
	require.Empty(t, links("", list[:1]), "there is nothing that they could lead to")
	found := map[string]string{}
	for archive := tar.NewReader(&packed); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if header.Typeflag == tar.TypeSymlink {
			found[header.Name] = header.Linkname
		}
	}
	require.Equal(t, map[string]string{"top/gateway-backup": "gatewayctl", "top/gateway-restore": "gatewayctl", "top/gateway-probe": "gatewayctl"}, found)
}

func TestTheDockerfileMakesTheSameImage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../Dockerfile")
	require.NoError(t, err)
	for label, value := range (source{revision: "$REVISION"}).labels("$VERSION") {
		if label == "org.opencontainers.image.created" {
			value = "$CREATED"
		}
		require.Contains(t, string(text), label+`="`+value+`"`)
	}
	require.Contains(t, string(text), "USER "+user+"\n")
	require.Contains(t, string(text), " ./cmd/"+strings.Join(programs, " ./cmd/")+"\n")
	require.Contains(t, string(text), "RUN for name in "+strings.Join(formerly, " ")+"; do ln -s gatewayctl ")
	for _, port := range ports {
		require.Regexp(t, `(?m)^EXPOSE .*\b`+strings.TrimSuffix(port, "/tcp")+`\b`, string(text))
	}
}
