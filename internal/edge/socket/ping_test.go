package socket

import (
	"encoding/hex"
	"io"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

func TestAFrameMayHaveAPingWhoseAnswerIsPassedOn(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	conn, p := f.dial(t)
	pinged := frame("second", 0)
	pinged.Ping, pinged.Run, pinged.Sequence = true, 7, 1<<40
	p.socket.SendEvents(frame("first", 0), pinged, frame("third", 0))
	for _, want := range []string{"first", "second", "third"} {
		_, data, err := conn.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, string(data))
	}
	require.Equal(t, [2]uint64{7, 1 << 40}, <-p.answered)

	go func() { _, _, _ = conn.Read(t.Context()) }() // answers
	require.NoError(t, p.socket.Ping(t.Context()))
	require.Empty(t, p.answered, "that was another one")
	require.NoError(t, conn.Close(websocket.StatusNormalClosure, ""))
}

// What comes with the ping shares its fate.
func TestThePingOfAFrameGoesOutRightBeforeIt(t *testing.T) {
	t.Parallel()
	f := start(t, defaults(), false)
	_, br, p := f.dialRaw(t, "")
	pinged := frame("x", 0)
	pinged.Ping, pinged.Run, pinged.Sequence = true, 1, 2
	p.socket.SendEvents(pinged)
	got := make([]byte, 2+pingPayload+3)
	_, err := io.ReadFull(br, got)
	require.NoError(t, err)
	require.Equal(t, "890c"+"00000001"+"0000000000000002"+"810178", hex.EncodeToString(got))
}
