package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// GoBuild runs go build in a directory of a module ("" is the working directory)
// as make build does, so that nothing is compiled twice, but leaves out of the
// programs what only debuggers read, which takes a third of the time for linking.
func GoBuild(ctx context.Context, source, output string, packages ...string) error {
	args := append([]string{"build", "-ldflags=-s -w", "-o", output}, packages...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// common is a directory that all programs of this machine share, whatever they are
// told by TMPDIR.
const common = "/tmp"

// Keep returns the path of a file or folder that takes long to make, and is kept on
// this machine for whoever needs it next. Its name says all that it depends on:
// what is there already is as good as what create would put at a path.
func Keep(name string, create func(path string) error) (string, error) {
	dir := filepath.Join(common, "daemon-gateway-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Other programs may do the same now: a rename is atomic, and one is enough.
	unfinished, err := os.MkdirTemp(dir, name+"-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(unfinished) }()
	made := filepath.Join(unfinished, name)
	if err := create(made); err != nil {
		return "", err
	}
	if err := os.Rename(made, path); err != nil {
		if _, there := os.Stat(path); there != nil {
			return "", err
		}
	}
	return path, nil
}

const natsModule = "github.com/nats-io/nats-server/v2"

var natsBuild sync.Mutex

// NATSProgram returns the NATS server of go.mod, which it builds where it finds
// none of that version from an earlier run. The go command must be there, and
// the working directory within the module.
func NATSProgram(ctx context.Context) (string, error) {
	natsBuild.Lock()
	defer natsBuild.Unlock()
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", natsModule).Output()
	if err != nil {
		return "", fmt.Errorf("find the version of %s: %w", natsModule, err)
	}
	return Keep("nats-server-"+strings.TrimSpace(string(version)), func(path string) error {
		return GoBuild(ctx, "", path, natsModule)
	})
}

// RedisProgram finds redis-server.
func RedisProgram() (string, error) {
	return Find("redis-server", "apt-get install redis-server", "brew install redis")
}

// Find finds an installed program: in PATH, or in Debian's place for servers,
// which is not in everybody's PATH. Its error says how to install it on Debian
// and on macOS.
func Find(name, debian, macOS string) (program string, err error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if program, err = exec.LookPath(candidate); err == nil {
			return program, nil
		}
	}
	return "", fmt.Errorf("%s is not in PATH: install it (Debian and Ubuntu: %s; macOS: %s)", name, debian, macOS)
}
