package testserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// postgresArchive is a file with the data directory that initdb makes, kept on this
// machine for all servers of one version.
type postgresArchive struct {
	install postgresInstall
	file    string
}

func (i postgresInstall) kept() (postgresArchive, error) {
	dir, err := process.Kept()
	what := sha256.Sum256([]byte(i.version + strings.Join(initdbArguments, " ")))
	return postgresArchive{i, filepath.Join(dir, fmt.Sprintf("postgres-%x.tar", what[:6]))}, err
}

// unpack puts the data directory into dir, if there is an archive.
func (a postgresArchive) unpack(dir string) (found bool, err error) {
	archive, err := os.Open(a.file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = archive.Close() }()
	tar := a.install.anyCommand("tar", "-xpf", "-")
	tar.Dir, tar.Stdin = dir, archive
	if err := tar.Run(); err != nil {
		return true, fmt.Errorf("unpack %s: %w", a.file, err)
	}
	return true, nil
}

// pack makes an archive of the data directory in dir.
func (a postgresArchive) pack(dir string) error {
	// Other programs may do the same now: a rename is atomic.
	unfinished, err := os.CreateTemp(filepath.Dir(a.file), "postgres-*")
	if err != nil {
		return err
	}
	tar := a.install.anyCommand("tar", "-cf", "-", "data")
	tar.Dir, tar.Stdout = dir, unfinished
	if err := errors.Join(tar.Run(), unfinished.Close()); err != nil {
		return errors.Join(err, os.Remove(unfinished.Name()))
	}
	return os.Rename(unfinished.Name(), a.file)
}
