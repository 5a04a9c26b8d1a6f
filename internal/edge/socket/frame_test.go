package socket

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// part is a frame as a client sends it, whole or in part.
func part(first byte, payload string) string {
	return string([]byte{first}) + masked(first&opcodeBits, payload)[1:]
}

func TestAMessageMayComeInPartsWithControlFramesBetween(t *testing.T) {
	t.Parallel()
	conn, br, p := start(t, defaults(), false).dialRaw(t, "")
	_, err := io.WriteString(conn, part(opText, "one, ")+masked(opPing, "p")+part(opContinuation, "two, ")+part(opContinuation, "")+
		masked(opPong, "nobody asked")+part(finalBit|opContinuation, "three")+masked(opText, "next"))
	require.NoError(t, err)
	require.Equal(t, "one, two, three", <-p.messages)
	require.Equal(t, "next", <-p.messages)
	pong := make([]byte, 3)
	_, err = io.ReadFull(br, pong)
	require.NoError(t, err)
	require.Equal(t, "\x8a\x01p", string(pong))
}

// RFC 6455 has a connection fail for each of these (sections 5.1, 5.2, 5.4, 5.5 and
// 7.4).
func TestWhatTheProtocolForbidsEndsTheConnection(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a frame that is not masked":       "\x81\x01x",
		"reserved bits":                    part(finalBit|0x40|opText, "x"),
		"an unknown opcode":                part(finalBit|0x3, "x"),
		"an unknown control opcode":        part(finalBit|0xb, "x"),
		"a control frame in parts":         part(opPing, "x"),
		"a control frame that is too long": masked(opPing, strings.Repeat("x", 126)),
		"an end without a beginning":       part(finalBit|opContinuation, "x"),
		"a message within another":         part(opText, "x") + masked(opText, "y"),
		"a close frame of one byte":        masked(opClose, "x"),
		"a close code for nobody":          masked(opClose, "\x03\xed"),
		"a close code that is none":        masked(opClose, "\x00\x01"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, br, p := start(t, defaults(), false).dialRaw(t, "")
			_, err := io.WriteString(conn, text)
			require.NoError(t, err)
			head := make([]byte, 4)
			_, err = io.ReadFull(br, head)
			require.NoError(t, err)
			require.Equal(t, byte(finalBit|opClose), head[0])
			require.EqualValues(t, CodeProtocolError, binary.BigEndian.Uint16(head[2:]))
			require.Equal(t, Ending{Code: CodeProtocolError}, <-p.ending)
			require.Equal(t, CodeProtocolError, <-p.refused)
			require.Empty(t, p.messages)
		})
	}
}

func TestAReasonThatIsNoTextIsTold(t *testing.T) {
	t.Parallel()
	conn, _, p := start(t, defaults(), false).dialRaw(t, masked(opClose, "\x03\xe8\xff"))
	require.Equal(t, Ending{Code: CodeInvalidPayload}, <-p.ending)
	require.NoError(t, conn.Close())
}

// What is announced is judged before it has come, however much it is.
func TestALengthBeyondTheLimitIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x81\xff\x00\x00\x00\x00\x00\x00\x04\x01"} {
		conn, _, p := start(t, defaults(), false).dialRaw(t, head+"\x00\x00\x00\x00")
		require.Equal(t, CodeTooBig, <-p.refused)
		require.NoError(t, conn.Close())
		require.Equal(t, CodeTooBig, (<-p.ending).Code)
	}
}

func TestThePeersCloseIsAnsweredWithItsCode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		payload string
		want    Ending
	}{
		"with a reason": {"\x0f\xa0moving", Ending{Code: 4000, Reason: "moving", ByPeer: true}},
		"without":       {"\x03\xe8", Ending{Code: CodeNormal, ByPeer: true}},
		"empty":         {"", Ending{Code: CodeNoStatus, ByPeer: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, br, p := start(t, defaults(), false).dialRaw(t, "")
			_, err := io.WriteString(conn, masked(opClose, test.payload))
			require.NoError(t, err)
			answer, err := io.ReadAll(br)
			require.NoError(t, err)
			require.Equal(t, append([]byte{finalBit | opClose, byte(len(test.payload))}, test.payload...), answer)
			require.Equal(t, test.want, <-p.ending)
		})
	}
}

// A length that is announced takes no memory before it has come.
func TestABufferGrowsWithWhatComes(t *testing.T) {
	t.Parallel()
	s := &Socket{cfg: Config{MaxMessageBytes: 16 << 20}, raw: &corkedConn{in: newInbound(nil, make([]byte, 5000))}}
	s.raw.in.err = io.EOF
	buf := make([]byte, 4096)
	_, err := s.readPayload(header{length: 16 << 20}, &buf, 0)
	require.ErrorIs(t, err, io.EOF)
	require.LessOrEqual(t, len(buf), 16<<10)
}

func TestMasksAreTakenOffWhereverAPartBegins(t *testing.T) {
	t.Parallel()
	mask := [4]byte{1, 2, 3, 4}
	text := []byte(strings.Repeat("some text ", 7))
	want := bytes.Clone(text)
	for i := range text {
		text[i] ^= mask[i%4]
	}
	for size := 1; size < len(text); size++ {
		got := bytes.Clone(text)
		for from := 0; from < len(got); from += size {
			unmask(got[from:min(from+size, len(got))], mask, from)
		}
		require.Equal(t, string(want), string(got), size)
	}
}

// What a peer sends is anybody's.
func FuzzReadHeader(f *testing.F) {
	for _, text := range []string{masked(opText, "x"), masked(opPing, ""), "\x81\xfe\x01\x00abcd", "\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00abcd", "\x80"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		in := bytes.NewReader(text)
		h, err := readHeader(make([]byte, maxHeader), func(p []byte) error {
			_, err := io.ReadFull(in, p)
			return err
		})
		if err != nil {
			return
		}
		require.False(t, h.control() && h.length > maxControl)
	})
}
