package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// programs builds the gateway's programs, once for all tests.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gateway-programs")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir, "./cmd/edge", "./cmd/router", "./cmd/publisher-bridge", "./cmd/gateway-admin", "./cmd/gatewayctl")
	build.Dir, build.Env = Root(), append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build the programs: %w\n%s", err, output)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// contents are what the files of Secrets hold, by their name.
var contents = map[string]string{
	"nats-url":             "nats://user:password@nats:4222\n",
	"gossip-keys":          "bm90IGEgc2VjcmV0LCBmb3IgdGVzdHMgYWxvbmUhISE=\n",
	"jwt-secret":           "a secret of thirty-two bytes or more, for tests alone",
	"jwt-secret-previous":  "another secret of thirty-two bytes or more, for tests",
	"database-url":         "postgres://user:password@postgres/neolith\n",
	"otel-headers":         "authorization=Bearer%20token\n",
	"redis-url":            "redis://:password@redis:6379\n",
	"api-keys":             "my-backend 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n",
	"jwt-jwks.json":        `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"22kzt5sSjsO2yBcLAdxiS3CCehE4U24isB1V8irgi4Y"}]}`,
	"s3-access-key-id":     "id\n",
	"s3-secret-access-key": "secret\n",
	"backup-identity.txt":  "AGE-SECRET-KEY-1DAHXC7FQVEHHYGR5DPJJQAR9WD68XGR0VCS8G6R9YP3KSCTJWSSS3UEVEF\n",
	"backup-signing.pem": "-----BEGIN PRIVATE KEY-----\n" +
		"MC4CAQAwBQYDK2VwBCIEIA7tv3R8gubZFPNWZS5Yr2drmvWuoCXPBDdzImpxumjX\n-----END PRIVATE KEY-----\n",
	"backup-signing-public.pem": "-----BEGIN PUBLIC KEY-----\n" +
		"MCowBQYDK2VwAyEAiR1EVhPQuLADiEQeyxjDZT0Bsp6j+mcy/n5bZ0clh3c=\n-----END PUBLIC KEY-----\n",
	"nats.nk": "SUANEECSYMTKP3DOOYGEFQIYUQCVMNRDYWJ4FFJS3XSF5NV6SY6CG7JMGY\n",
	"nats.creds": "-----BEGIN NATS USER JWT-----\nonly.for.tests\n------END NATS USER JWT------\n\n" +
		"-----BEGIN USER NKEY SEED-----\nSUANEECSYMTKP3DOOYGEFQIYUQCVMNRDYWJ4FFJS3XSF5NV6SY6CG7JMGY\n------END USER NKEY SEED------\n",
}

// pair is a certificate, of a server, a client or an authority, and its key.
var pair = sync.OnceValues(func() (certificate, key string) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
	if err != nil {
		panic(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
})

// content returns what the file of a Secret holds.
func content(name string) string {
	if text, ok := contents[name]; ok {
		return text
	}
	certificate, key := pair()
	switch filepath.Ext(name) {
	case ".crt", ".pem":
		return certificate
	case ".key":
		return key
	}
	return ""
}

// program is a container's program with the environment that the chart gives it.
type program struct {
	path        string
	args        []string // of its command, as [backup]
	environment map[string]string
}

// programOf prepares a container to be run here: what are files of Secrets there
// are files of the test here.
func (c *installation) programOf(w workload) program {
	c.t.Helper()
	dir, err := programs()
	require.NoError(c.t, err)
	names, values := c.environment(w.container())
	values["NODE_NAME"] = "node"
	if contains(names, "GOSSIP_ADVERTISE_ADDR") {
		values["GOSSIP_ADVERTISE_ADDR"] = "192.0.2.7"
	}
	folder := c.t.TempDir()
	files := c.files(w)
	for name, value := range values {
		if !strings.HasPrefix(value, "/etc/daemon-gateway/") {
			continue
		}
		require.Contains(c.t, files, value, "%s names a file that is not there", name)
		here := filepath.Join(folder, filepath.Base(value))
		require.NoError(c.t, os.WriteFile(here, []byte(content(filepath.Base(value))), 0o600))
		values[name] = here
	}
	command := w.container().Command
	return program{dir + command[0], command[1:], values}
}

// called is the name by which the page of settings has what a container runs.
func called(command []string) string { return strings.TrimPrefix(strings.Join(command, " "), "/") }

func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, slices.Concat(p.args, args)...)
	cmd.Env = []string{"PATH=/"}
	for name, value := range p.environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// gateways are the workloads that run programs of the gateway.
func (c *installation) gateways() []workload {
	return slices.DeleteFunc(c.workloads(), func(w workload) bool { return contains([]string{"nats", "redis"}, w.component()) })
}

func TestTheEnvironmentHoldsOnlySettingsThatTheProgramKnows(t *testing.T) {
	t.Parallel()
	known, err := Programs()
	require.NoError(t, err)
	// The page has no section of other commands of gatewayctl: their settings are those of NATS.
	known["gatewayctl idle"] = slices.DeleteFunc(slices.Clone(known["gatewayctl backup"]), func(s Setting) bool { return s.Group != "NATS" })
	eachExample(t, func(t *testing.T, c *installation) {
		for _, w := range c.gateways() {
			var settings []string
			for _, s := range known[called(w.container().Command)] {
				settings = append(settings, s.Name)
			}
			require.NotEmpty(t, settings)
			names, _ := c.environment(w.container())
			require.Subset(t, settings, names, w.name)
		}
	})
}

// What the programs themselves would refuse at their start the chart must not
// render.
func TestTheProgramsAcceptTheirSettings(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for _, w := range c.gateways() {
			if w.component() == "toolbox" {
				continue // it has the settings of NATS that backups have, and nothing to print them with
			}
			output, err := c.programOf(w).command(t.Context(), "--print-config").CombinedOutput()
			require.NoError(t, err, "%s: %s", w.name, output)
		}
	})
}

func TestUsersOfNATSMayBeNkeysAndItsServersLeafNodes(t *testing.T) {
	t.Parallel()
	c := exampleWith(t, "everything", "nats: {credsSecret: null, nkeySecret: nats-nkeys, tlsFirst: true, jetstreamDomain: hub}")
	for _, w := range c.gateways() {
		_, settings := c.environment(w.container())
		if settings["NATS_URL"] == "" {
			continue
		}
		require.NotContains(t, settings, "NATS_CREDS_FILE", w.name)
		require.Equal(t, "true", settings["NATS_TLS_FIRST"], w.name)
		require.Equal(t, "hub", settings["NATS_JETSTREAM_DOMAIN"], w.name)
		require.Contains(t, c.files(w), settings["NATS_NKEY_FILE"], w.name)
		if w.component() != "toolbox" {
			output, err := c.programOf(w).command(t.Context(), "--print-config").CombinedOutput()
			require.NoError(t, err, "%s: %s", w.name, output)
		}
	}
}
