package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// program builds a static program, the smallest that there is.
func program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "edge")
	require.NoError(t, os.WriteFile(source, []byte("package main\nfunc main() {}\n"), 0o600))
	build := exec.Command("go", "build", "-o", binary, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	return binary
}

func optionsFor(t *testing.T) options {
	t.Helper()
	authorities := filepath.Join(t.TempDir(), "cas.crt")
	require.NoError(t, os.WriteFile(authorities, []byte("certificates"), 0o600))
	return options{
		Name: "daemon-gateway:1.2.3", Output: filepath.Join(t.TempDir(), "image.tar"), Version: "1.2.3", Revision: "abc",
		Created: 1_700_000_000, Arch: "amd64", CAs: authorities, Programs: []string{program(t)},
	}
}

// unpack returns the files of a tar archive by name.
func unpack(t *testing.T, r io.Reader) (files map[string][]byte, headers map[string]*tar.Header) {
	t.Helper()
	files, headers = map[string][]byte{}, map[string]*tar.Header{}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return files, headers
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		files[header.Name], headers[header.Name] = content, header
	}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func read[T any](t *testing.T, content []byte) T {
	t.Helper()
	var value T
	require.NoError(t, json.Unmarshal(content, &value))
	return value
}

func TestTheArchiveIsAnOCILayoutAndADockerArchive(t *testing.T) {
	t.Parallel()
	o := optionsFor(t)
	require.NoError(t, run(o))
	content, err := os.ReadFile(o.Output)
	require.NoError(t, err)
	files, _ := unpack(t, bytes.NewReader(content))
	require.JSONEq(t, `{"imageLayoutVersion":"1.0.0"}`, string(files["oci-layout"]))

	blob := func(d descriptor) []byte {
		content, ok := files[blobName(d.Digest)]
		require.True(t, ok, "%s is missing", d.Digest)
		require.Equal(t, d.Digest, digest(content))
		require.Len(t, content, d.Size)
		return content
	}
	index := read[manifest](t, files["index.json"])
	require.Len(t, index.Manifests, 1)
	require.Equal(t, "docker.io/library/daemon-gateway:1.2.3", index.Manifests[0].Annotations["io.containerd.image.name"])
	top := read[manifest](t, blob(index.Manifests[0]))
	require.Len(t, top.Layers, 1)
	config := read[imageConfig](t, blob(*top.Config))
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, "1.2.3", config.Config.Labels["org.opencontainers.image.version"])
	require.Equal(t, "2023-11-14T22:13:20Z", config.Config.Labels["org.opencontainers.image.created"])

	layer, err := gzip.NewReader(bytes.NewReader(blob(top.Layers[0])))
	require.NoError(t, err)
	plain, err := io.ReadAll(layer)
	require.NoError(t, err)
	require.Equal(t, []string{digest(plain)}, config.RootFS.DiffIDs)
	inside, headers := unpack(t, bytes.NewReader(plain))
	require.Equal(t, "certificates", string(inside["etc/ssl/certs/ca-certificates.crt"]))
	require.EqualValues(t, 0o755, headers["edge"].Mode)
	require.Contains(t, headers, "etc/ssl/", "some runtimes do not make the folders of a file")

	docker := read[[]dockerManifest](t, files["manifest.json"])
	require.Equal(t, []dockerManifest{{
		Config: blobName(top.Config.Digest), RepoTags: []string{"daemon-gateway:1.2.3"}, Layers: []string{blobName(top.Layers[0].Digest)},
	}}, docker)
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	o := optionsFor(t)
	require.NoError(t, run(o))
	first, err := os.ReadFile(o.Output)
	require.NoError(t, err)
	require.NoError(t, run(o))
	second, err := os.ReadFile(o.Output)
	require.NoError(t, err)
	require.Equal(t, digest(first), digest(second))
}

func TestWhatIsNoStaticProgramIsRefused(t *testing.T) {
	t.Parallel()
	o := optionsFor(t)
	o.Programs = []string{o.CAs}
	require.ErrorContains(t, run(o), "expected a Linux program")
	dynamic, err := exec.LookPath("sh")
	require.NoError(t, err)
	o.Programs = []string{dynamic}
	require.ErrorContains(t, run(o), "dynamically linked")
	require.NoFileExists(t, o.Output)
}

func TestNamesAreWrittenInFullForContainerd(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"gateway:1":                  "docker.io/library/gateway:1",
		"neolith/gateway:1":          "docker.io/neolith/gateway:1",
		"localhost/gateway:1":        "localhost/gateway:1",
		"registry.example/a/b:1":     "registry.example/a/b:1",
		"registry.example:5000/gw:1": "registry.example:5000/gw:1",
	} {
		require.Equal(t, want, image{name: name}.reference())
	}
}

func TestTheDockerfileMakesTheSameImage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	for label, value := range (image{version: "$VERSION", revision: "$REVISION"}).labels() {
		if label == "org.opencontainers.image.created" {
			value = "$CREATED"
		}
		require.Contains(t, string(text), label+`="`+value+`"`)
	}
	require.Contains(t, string(text), "USER "+user+"\n")
	config := image{}.config("")
	for port := range config.Config.ExposedPorts {
		number, _, _ := bytes.Cut([]byte(port), []byte("/tcp"))
		require.Regexp(t, regexp.MustCompile(`(?m)^EXPOSE .*\b`+string(number)), string(text))
	}
}
