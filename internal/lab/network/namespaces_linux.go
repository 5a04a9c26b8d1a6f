package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

const ownNamespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS

// Check says why there can be no private network here, nil if there can. It
// tries in namespaces that end at once.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("a private network needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("a private network needs the command ip (Debian and Ubuntu: apt-get install iproute2)")
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader("link add name probe0 type bridge\nlink add name probe1 type veth peer name probe2\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: ownNamespaces}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the kernel does not allow a private network: %w %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Enter replaces the running program by itself with another environment, in
// namespaces of its own for network and mounts. It returns only if that fails;
// what the program may do then is end.
func Enter(environ []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Namespaces belong to the thread, and an exec keeps those of its thread.
	runtime.LockOSThread()
	if err := syscall.Unshare(ownNamespaces); err != nil {
		return fmt.Errorf("enter namespaces: %w", err)
	}
	return fmt.Errorf("start again in namespaces: %w", syscall.Exec(self, os.Args, environ))
}

// claimNamespaces makes sure that what ip mounts for its names stays here. It
// fails where interfaces are up already: those are the machine's.
func claimNamespaces() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 {
			return fmt.Errorf("the program has not entered namespaces of its own: it finds interface %s up", i.Name)
		}
	}
	const names = "/run/netns"
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := os.MkdirAll(names, 0o755); err != nil {
		return err
	}
	return syscall.Mount("gateway", names, "tmpfs", 0, "")
}
