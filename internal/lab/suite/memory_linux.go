package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// memory is a directory in memory, which runs that are made at the same time share.
// Each holds a lock on it.
type memory struct{ *os.File }

// inMemory returns a directory in memory for what the tests write: the servers that
// they start make and delete thousands of files, which on a disk is a third of all
// that they take of the processors, and has them wait for each other. Its name is
// always the same, or go test would take no result from its cache. An error says
// that there is no room for it, or that another place is asked for.
func inMemory() (memory, error) {
	const (
		shared     = "/dev/shm"
		room       = 6 << 30 // bytes: several times what is in use at once
		noPrograms = 8       // ST_NOEXEC
	)
	if os.Getenv("TMPDIR") != "" {
		return memory{}, errors.New("TMPDIR is set")
	}
	var system syscall.Statfs_t
	if err := syscall.Statfs(shared, &system); err != nil {
		return memory{}, err
	}
	if system.Bavail*uint64(system.Bsize) < room || system.Flags&noPrograms != 0 {
		return memory{}, errors.New("no room in memory")
	}
	return enter(filepath.Join(shared, fmt.Sprintf("daemon-gateway-%d", os.Getuid())))
}

// enter begins the use of a directory, which it makes where there is none.
func enter(name string) (memory, error) {
	// PostgreSQL, which runs as another user, has to get at what is in it.
	if err := os.MkdirAll(name, 0o755); err != nil {
		return memory{}, err
	}
	dir, err := os.Open(name)
	if err != nil {
		return memory{}, err
	}
	m := memory{dir}
	m.clear() // of what runs that were killed have left
	return m, syscall.Flock(int(dir.Fd()), syscall.LOCK_SH)
}

// leave ends the use of the directory, and of what is in it with the last run.
func (m memory) leave() {
	m.clear()
	_ = m.Close()
}

// clear deletes what is in the directory, unless another run is there.
func (m memory) clear() {
	if syscall.Flock(int(m.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	left, _ := filepath.Glob(filepath.Join(m.Name(), "*"))
	for _, path := range left {
		_ = os.RemoveAll(path)
	}
}
