package access

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestFromWhereAnOrchestratorsDaemonsMayConnect(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "origins")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("# our own\none 192.0.2.0/24 2001:db8::/32\none 198.51.100.7\n\nnowhere\n")
	changes := 0
	o, err := NewOrigins("ORIGINS", file, func() { changes++ }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	permits := func(addr string, ids ...protocol.OrchestratorID) bool {
		return o.Permit(netip.MustParseAddr(addr), ids...)
	}

	for _, addr := range []string{"192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1", "198.51.100.7"} {
		require.True(t, permits(addr, "one"), addr)
	}
	require.False(t, permits("203.0.113.1", "one"))
	require.False(t, o.Permit(netip.Addr{}, "one"), "an address that is not known")
	require.False(t, permits("192.0.2.9", "nowhere"))
	require.True(t, permits("203.0.113.1", "another", ""))
	require.False(t, permits("203.0.113.1", "another", "one"), "one of its ids is enough")
	require.True(t, (*Origins)(nil).Permit(netip.Addr{}, "one"))

	write("one 203.0.113.0/24\n")
	require.NoError(t, o.File().Look())
	require.True(t, permits("203.0.113.1", "one"))
	require.False(t, permits("192.0.2.9", "one"))
	require.True(t, permits("192.0.2.9", "nowhere"), "it is not named any more")
	require.Equal(t, 2, changes)
}

// Whatever is wrong with the file, nobody gets in whom it kept out before.
func TestAMistakeInTheFileOfOriginsLetsNobodyIn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "origins")
	for name, test := range map[string]struct{ text, problem string }{
		"a range that is none":      {"one nonsense\n", "line 1: expected an address range"},
		"another's range":           {"two 192.0.2.0/24 nonsense\n", "line 1: expected an address range"},
		"no id":                     {"\n_canary_x 192.0.2.0/24\n", "line 2: expected the id of an orchestrator first"},
		"a list with other commas":  {"one, 192.0.2.0/24,203.0.113.0/24\n", "line 1: expected an address range"},
		"a good line beside it":     {"two 192.0.2.0/24\none 203.0.113.0/24 203.0.113.\n", "line 2: expected an address range"},
		"a line that is cut before": {"one\ntwo 192.0.2\n", "line 2: expected an address range"},
	} {
		require.NoError(t, os.WriteFile(file, []byte("one 192.0.2.0/24\n"), 0o600))
		o, err := NewOrigins("ORIGINS", file, func() {}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, []byte(test.text), 0o600))
		require.ErrorContains(t, o.File().Look(), test.problem, name)
		require.False(t, o.Permit(netip.MustParseAddr("198.51.100.7"), "one"), name)
		require.ErrorContains(t, CheckOrigins(file), test.problem, "it is refused at the start: %s", name)
	}
	require.NoError(t, os.Remove(file))
	require.Error(t, CheckOrigins(file))
}
