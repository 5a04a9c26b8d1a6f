package traffic

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// The edge of a daemon whose machine has vanished notices nothing.
func TestAFrozenNetworkTakesAllAndGivesNothing(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	n := newNetwork(ours)
	read := make(chan error, 1)
	go func() {
		_, err := n.Read(make([]byte, 8))
		read <- err
	}()
	n.freeze()
	count, err := n.Write([]byte("lost"))
	require.NoError(t, err)
	require.Equal(t, 4, count)
	_, err = theirs.Write([]byte("unheard"))
	require.NoError(t, err)
	select {
	case err := <-read:
		require.Fail(t, "something came", "%v", err)
	default:
	}
	require.NoError(t, n.Close())
	require.ErrorIs(t, <-read, io.EOF)
}
