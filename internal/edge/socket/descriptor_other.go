//go:build !unix

package socket

import (
	"net"
	"syscall"
)

func descriptorOf(net.Conn) syscall.RawConn { return nil }

func readDescriptor(uintptr, []byte) (n int, again bool, err error) { return 0, false, net.ErrClosed }

func readable(uintptr) bool { return true }
