package testserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neolith/daemon-gateway/internal/lab/process"
)

var initdbArguments = []string{
	"--username", postgresUser, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions",
}

// emptyData returns an archive with the data directory that initdb makes. That is
// always the same and takes a second of a processor, so it is kept on this machine.
func (i postgresInstall) emptyData() (archive string, err error) {
	what := sha256.Sum256([]byte(i.version + strings.Join(initdbArguments, " ")))
	return process.Keep(fmt.Sprintf("postgres-%x.tar", what[:6]), i.pack)
}

// pack makes the archive.
func (i postgresInstall) pack(path string) error {
	dir, err := os.MkdirTemp("", "daemon-gateway-initdb-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := i.own(dir); err != nil {
		return err
	}
	initdb := i.command("initdb", slices.Concat(initdbArguments, []string{"--pgdata", filepath.Join(dir, "data")})...)
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	archive, err := os.Create(path)
	if err != nil {
		return err
	}
	tar := i.anyCommand("tar", "-cf", "-", "data")
	tar.Dir, tar.Stdout = dir, archive
	return errors.Join(tar.Run(), archive.Close())
}

// unpack puts what is in the archive into dir.
func (i postgresInstall) unpack(path, dir string) error {
	archive, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	tar := i.anyCommand("tar", "-xpf", "-")
	tar.Dir, tar.Stdin = dir, archive
	if err := tar.Run(); err != nil {
		return fmt.Errorf("unpack %s: %w", path, err)
	}
	return nil
}
