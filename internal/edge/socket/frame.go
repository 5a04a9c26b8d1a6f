package socket

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// The opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	finalBit, reservedBits, opcodeBits = 0x80, 0x70, 0x0f
	maskedBit, lengthBits              = 0x80, 0x7f
	// maxControl is the longest payload of a control frame.
	maxControl = 125
	// maxHeader is the longest header of a frame.
	maxHeader = 14
)

// header says what a frame is that comes from a peer.
type header struct {
	op     byte
	final  bool
	length uint64
	mask   [4]byte
}

func (h header) control() bool { return h.op&0x8 != 0 }

// violation is what a peer does that RFC 6455 forbids. The connection ends with the
// code.
type violation struct {
	code    int
	problem string
}

func (v violation) Error() string { return v.problem }

func forbidden(format string, args ...any) error {
	return violation{CodeProtocolError, fmt.Sprintf(format, args...)}
}

// readHeader reads the next header by what reads all of a text, into a scratch of
// maxHeader bytes.
func readHeader(scratch []byte, readFull func(p []byte) error) (h header, err error) {
	b := scratch[:2]
	if err := readFull(b); err != nil {
		return h, err
	}
	h.op, h.final, h.length = b[0]&opcodeBits, b[0]&finalBit != 0, uint64(b[1]&lengthBits)
	switch {
	case b[0]&reservedBits != 0:
		return h, forbidden("reserved bits are set")
	case b[1]&maskedBit == 0:
		return h, forbidden("a frame is not masked")
	case h.op > opBinary && h.op < opClose || h.op > opPong:
		return h, forbidden("opcode %#x", h.op)
	case h.control() && (!h.final || h.length > maxControl):
		return h, forbidden("a control frame in parts, or too long")
	}
	extended := 0
	switch h.length {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	b = scratch[:extended+len(h.mask)]
	if err := readFull(b); err != nil {
		return h, err
	}
	switch extended {
	case 2:
		h.length = uint64(binary.BigEndian.Uint16(b))
	case 8:
		h.length = binary.BigEndian.Uint64(b)
	}
	copy(h.mask[:], b[extended:])
	return h, nil
}

// unmask takes the mask off a part of a payload that begins at an offset.
func unmask(p []byte, mask [4]byte, offset int) {
	var key [8]byte
	for i := range key {
		key[i] = mask[(offset+i)%len(mask)]
	}
	word := binary.NativeEndian.Uint64(key[:])
	for len(p) >= len(key) {
		binary.NativeEndian.PutUint64(p, binary.NativeEndian.Uint64(p)^word)
		p = p[len(key):]
	}
	for i := range p {
		p[i] ^= key[i]
	}
}

// appendHeader appends the header of a frame to a peer, which is whole and not
// masked.
func appendHeader(b []byte, op byte, length int) []byte {
	b = append(b, finalBit|op)
	switch {
	case length <= maxControl:
		return append(b, byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(length))
}

// closePayload is what a close frame says.
func closePayload(code int, reason string) []byte {
	if code == CodeNoStatus {
		return nil
	}
	reason = reason[:min(len(reason), maxControl-2)]
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// parseClose reads what a peer's close frame says.
func parseClose(p []byte) (Ending, error) {
	if len(p) == 0 {
		return Ending{Code: CodeNoStatus, ByPeer: true}, nil
	}
	if len(p) < 2 {
		return Ending{}, forbidden("a close frame of one byte")
	}
	code, reason := int(binary.BigEndian.Uint16(p)), p[2:]
	switch {
	case code >= 3000 && code <= 4999:
	case code >= CodeNormal && code <= 1014 && code != 1004 && code != CodeNoStatus && code != CodeAbnormal:
	default:
		return Ending{}, forbidden("close code %d", code)
	}
	if !utf8.Valid(reason) {
		return Ending{}, violation{CodeInvalidPayload, "a reason that is no UTF-8"}
	}
	return Ending{Code: code, Reason: string(reason), ByPeer: true}, nil
}
