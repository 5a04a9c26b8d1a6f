package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// The Compose file's load balancer is the recommended one with other servers, so
// that what is tried with the one holds for the other.
func TestTheHAProxyOfTheComposeFileIsTheRecommendedOne(t *testing.T) {
	t.Parallel()
	compose, recommended := deployed(t, "compose", "haproxy.cfg"), deployed(t, "loadbalancer", haproxyHTTP)
	for _, section := range []string{"defaults", "backend edges"} {
		want := sectionOf(recommended, section)
		require.NotEmpty(t, want, section)
		require.Equal(t, want, sectionOf(compose, section), section)
	}
	require.Contains(t, sectionOf(recommended, "frontend daemons"), sectionOf(compose, "frontend daemons")[1], "the same paths are the gateway's")

	b := testserver.HAProxy(t, func(b *testserver.LoadBalancer) string {
		return strings.NewReplacer("bind :8080", "bind "+b.Address, "bind :8081", "bind unix@"+filepath.Join(t.TempDir(), "intake")).Replace(compose)
	})
	for path, want := range map[string]int{"/": http.StatusNotFound, "/daemon/ws": http.StatusServiceUnavailable} {
		resp, err := http.Get("http://" + b.Address + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, path)
	}
}

func deployed(t *testing.T, folder, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", folder, file))
	require.NoError(t, err)
	return string(text)
}

// sectionOf returns the lines of a section of HAProxy's configuration, without
// comments and servers.
func sectionOf(configuration, name string) []string {
	_, rest, _ := strings.Cut(configuration, "\n"+name+"\n")
	section, _, _ := strings.Cut(rest, "\n\n")
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(section), "\n"), func(line string) bool {
		words := strings.Fields(line)
		return len(words) == 0 || words[0] == "server" || words[0] == "server-template" || strings.HasPrefix(words[0], "#")
	})
}
