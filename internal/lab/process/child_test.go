package process_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// The children of these tests are this program itself, in one of these roles.
const (
	roleVariable = "CHILD_ROLE"

	roleCounter          = "counter"            // counts with many threads
	roleParent           = "parent"             // has a counter for a child, and does nothing itself
	roleListener         = "listener"           // listens
	roleParentOfListener = "parent of listener" // has a listener for a child
	roleCrash            = "crash"              // ends by itself
	roleGraceful         = "graceful"           // ends when it is asked to
	roleStubborn         = "stubborn"           // does not
	roleOwner            = "owner"              // reserves addresses

	fileVariable    = "COUNTERS"
	addressVariable = "LISTEN"
	codeVariable    = "EXIT_CODE"
)

// What children say when they have begun.
const (
	counting  = "counting"
	listening = "listening"
	ready     = "ready"
)

const crashCode = 17

// addressesOwned is so many that a program could not reserve as many without
// meeting some of them.
const addressesOwned = 500

// countingThreads is more than there are cores, so that each waits for its turn.
const countingThreads = 8

// The main thread, which takes signals, is to have work as well.
func init() {
	if os.Getenv(roleVariable) == roleCounter {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		// No test needs it for longer, and it may be left alone by a test that is killed.
		time.AfterFunc(2*patience, func() { os.Exit(1) })
		if err := play(role); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func play(role string) error {
	switch role {
	case roleCounter:
		return count(os.Getenv(fileVariable))
	case roleParent:
		return beParentOf(roleCounter)
	case roleListener:
		if _, err := net.Listen("tcp", os.Getenv(addressVariable)); err != nil {
			return err
		}
		fmt.Println(listening)
		select {}
	case roleParentOfListener:
		return beParentOf(roleListener)
	case roleOwner:
		for range addressesOwned {
			address, err := process.Reserve(process.Loopback)
			if err != nil {
				return err
			}
			fmt.Print(address, " ")
		}
		fmt.Println(ready)
		select {}
	case roleCrash:
		fmt.Println("out of order")
		os.Exit(crashCode)
	case roleGraceful:
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		fmt.Println(ready, os.Args[0])
		<-asked
		code, err := strconv.Atoi(os.Getenv(codeVariable))
		if err != nil {
			return err
		}
		os.Exit(code)
	case roleStubborn:
		signal.Ignore(syscall.SIGTERM)
		fmt.Println(ready)
		select {}
	}
	return fmt.Errorf("no such role: %s", role)
}

// beParentOf starts a child in a session of its own, as servers do.
func beParentOf(role string) error {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), roleVariable+"="+role)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return child.Run()
}

// counters makes a file that processes count in.
func counters(t *testing.T) (file string) {
	file = filepath.Join(t.TempDir(), "counters")
	require.NoError(t, os.WriteFile(file, make([]byte, 8*countingThreads), 0o600))
	return file
}

// count counts for ever, each thread for itself, in a file that is in memory:
// whoever reads it sees which of them run.
func count(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	memory, err := syscall.Mmap(int(f.Fd()), 0, 8*countingThreads, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(countingThreads + 1) // one more for the timer that ends it
	thread := func(i int) {
		runtime.LockOSThread()
		for n := (*uint64)(unsafe.Pointer(&memory[8*i])); ; {
			atomic.AddUint64(n, 1)
		}
	}
	for i := range countingThreads - 1 {
		go thread(i)
	}
	// With the lowest priority its turn comes late, and signals reach it late.
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19); err != nil {
		return err
	}
	fmt.Println(counting)
	thread(countingThreads - 1)
	return nil
}
