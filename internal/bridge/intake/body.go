package intake

import (
	"errors"
	"io"

	"github.com/neolith/daemon-gateway/internal/share"
)

var errNoRoom = errors.New("too much is being stored at the moment")

// room is what a request has taken of the memory for bodies.
type room struct {
	pool  *share.Pool[string]
	key   string
	taken int64
}

// grow takes room for n bytes in all.
func (r *room) grow(n int64) error {
	if !r.pool.Take(r.key, n-r.taken) {
		return errNoRoom
	}
	r.taken = n
	return nil
}

func (r *room) giveBack() { r.pool.Give(r.key, r.taken) }

// readBody reads a body of a declared length (-1: none) and takes room for it as
// it arrives, since a length costs nothing to declare. While it is moved to more
// room, half as much is used beside it.
func readBody(body io.Reader, length int64, room *room) ([]byte, error) {
	if length < 0 {
		length = maxBodyBytes + 1
	}
	var buf []byte
	for int64(len(buf)) < length {
		if len(buf) == cap(buf) {
			size := min(length, max(bodyPiece, 2*int64(cap(buf))))
			if err := room.grow(size); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, size), buf...)
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return buf, nil
}
