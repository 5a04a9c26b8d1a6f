package attack

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
)

// gossip connects to where the edge gossips, and counts what is sent there.
func (c *client) gossip(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx, c.Gossip, true)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c.record.count(func(t *Tally) { t.Opened++ })
	return &counted{Conn: conn, record: c.record, forget: stop}, nil
}

// strangersStream claims to be an encrypted message of a member: label, kind of
// message, length. What comes is nothing.
func strangersStream(ctx context.Context, c *client) error {
	conn, err := c.gossip(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	const label, encrypted, bytes = 244, 10, 20 << 20
	head := append([]byte{label, byte(len(c.Cluster))}, c.Cluster...)
	head = binary.BigEndian.AppendUint32(append(head, encrypted), bytes)
	_, err = conn.Write(head)
	for sent, piece := 0, make([]byte, 256<<10); err == nil && sent < bytes; sent += len(piece) {
		_, err = conn.Write(piece)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, conn)
	}
	return err
}

// membersStream is one that stays open, of whoever has the key: messages as large as
// may be, each once the last one was taken in, that say nothing that is known.
func membersStream(ctx context.Context, c *client) error {
	conn, err := c.gossip(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	seal, err := c.sealing(salt)
	if err != nil {
		return err
	}
	const standing, version, unknown = 0xF5, 1, 200
	said := binary.AppendUvarint(append(append([]byte{version}, make([]byte, 8)...), unknown), 4<<20-100)
	said = append(said, make([]byte, 4<<20-100)...)
	text := append(append([]byte{standing, version}, salt...), byte(len(c.Cluster)))
	text = append(text, c.Cluster...)
	nonce := make([]byte, seal.NonceSize())
	for n := uint64(0); ; n++ {
		binary.BigEndian.PutUint64(nonce[len(nonce)-8:], n)
		text = binary.BigEndian.AppendUint32(text, uint32(len(said)+seal.Overhead()))
		if _, err := conn.Write(seal.Seal(text, nonce, said, nil)); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return err
		}
		text = text[:0]
	}
}

// membersDeclaration is what memberlist would take room for before it has come: an
// exchange of a million members and 20 MiB of what they say, of whoever has the key,
// and no more than that.
func membersDeclaration(ctx context.Context, c *client) error {
	conn, err := c.gossip(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	const pushPull, structure, number32 = 6, 0x80, 0xce
	text := append([]byte{pushPull, structure | 2}, "\xa5Nodes"...)
	text = binary.BigEndian.AppendUint32(append(text, number32), 1<<20)
	text = append(text, "\xacUserStateLen"...)
	text = binary.BigEndian.AppendUint32(append(text, number32), 20<<20)
	head, err := c.sealed(text)
	if err != nil {
		return err
	}
	if _, err := conn.Write(head); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	if err == nil {
		err = io.EOF
	}
	return err
}

// sealed is a message of memberlist's on a stream, sealed as it does.
func (c *client) sealed(text []byte) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(c.GossipKey)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	const label, encrypted, version = 244, 10, 1
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // it never fails
	head := binary.BigEndian.AppendUint32([]byte{encrypted}, uint32(1+len(nonce)+len(text)+aead.Overhead()))
	out := append([]byte{label, byte(len(c.Cluster))}, c.Cluster...)
	out = append(append(append(out, head...), version), nonce...)
	return aead.Seal(out, nonce, text, append(head, c.Cluster...)), nil
}

// sealing is that of package ring.
func (c *client) sealing(salt []byte) (cipher.AEAD, error) {
	key, err := base64.StdEncoding.DecodeString(c.GossipKey)
	if err != nil {
		return nil, err
	}
	if key, err = hkdf.Key(sha256.New, key, salt, "daemon-gateway directory stream 1 "+c.Cluster, 32); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
