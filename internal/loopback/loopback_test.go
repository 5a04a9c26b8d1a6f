package loopback

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsThisMachine(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true, "[::1]": true, "::ffff:127.0.0.1": true,
		"": false, "10.0.0.1": false, "localhost.example": false, "db": false, "0.0.0.0": false,
	} {
		require.Equal(t, want, Is(host), host)
	}
}
