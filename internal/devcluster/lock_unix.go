//go:build unix

package devcluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockData keeps a second cluster off the data directory: two NATS servers on
// the same files would destroy them. The lock ends with the process.
func (c *Cluster) lockData() error {
	file, err := os.OpenFile(filepath.Join(c.cfg.Data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the lock of the data directory: %w", err)
	}
	c.teardown.Push("data directory's lock", func(context.Context) error { return file.Close() })
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another cluster runs on %s (%w): stop it, or give another directory with --data", c.cfg.Data, err)
	}
	return nil
}
