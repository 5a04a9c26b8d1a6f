package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// oldestPostgres is the oldest major version that the gateway supports.
const oldestPostgres = 15

// postgresInstall is where PostgreSQL's programs are, and as whom they run:
// they refuse to run as root.
type postgresInstall struct {
	bin        string
	version    string              // as the server says it
	credential *syscall.Credential // nil for our own
}

func findPostgres() (postgresInstall, error) {
	var found []string
	for _, bin := range postgresPlaces() {
		said, version, err := postgresVersion(bin)
		if err != nil {
			continue
		}
		if version >= oldestPostgres {
			credential, err := unprivileged()
			return postgresInstall{bin: bin, version: said, credential: credential}, err
		}
		found = append(found, fmt.Sprintf("%s (version %d)", bin, version))
	}
	if found == nil {
		found = []string{"none"}
	}
	return postgresInstall{}, fmt.Errorf("this test needs PostgreSQL %d or newer (initdb and postgres), found %s: install it "+
		"(Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql@%d)",
		oldestPostgres, strings.Join(found, ", "), oldestPostgres)
}

// postgresPlaces lists the directories that hold both programs: what is in PATH
// first, then Debian's, the newest version first.
func postgresPlaces() []string {
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(debian, func(a, b string) int { return versionInPath(b) - versionInPath(a) })
	places := append(filepath.SplitList(os.Getenv("PATH")), debian...)
	places = append(places, "/usr/local/bin", "/usr/local/pgsql/bin")
	return slices.DeleteFunc(places, func(bin string) bool {
		return bin == "" || !isFile(filepath.Join(bin, "initdb")) || !isFile(filepath.Join(bin, "postgres"))
	})
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func versionInPath(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return version
}

// postgresVersion returns what the server says, "postgres (PostgreSQL) 15.4", and the
// major version.
func postgresVersion(bin string) (said string, major int, err error) {
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", 0, err
	}
	_, err = fmt.Sscanf(string(out), "postgres (PostgreSQL) %d", &major)
	return string(out), major, err
}

// unprivileged returns whom the server has to run as where we are root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var problems []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("postgres does not run as root, and there is nobody else to run it as: %w", errors.Join(problems...))
}

// own gives a directory to the user that the server runs as.
func (i postgresInstall) own(dir string) error {
	if i.credential == nil {
		return nil
	}
	return os.Chown(dir, int(i.credential.Uid), int(i.credential.Gid))
}

// environ is all that PostgreSQL's programs see: a PGPORT or PGDATA of the
// developer's must not reach them.
func (i postgresInstall) environ() []string { return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"} }

// command is one of PostgreSQL's programs.
func (i postgresInstall) command(program string, args ...string) *exec.Cmd {
	return i.anyCommand(filepath.Join(i.bin, program), args...)
}

// anyCommand runs as the user that the server runs as.
func (i postgresInstall) anyCommand(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: i.credential}
	cmd.Env = i.environ()
	return cmd
}
