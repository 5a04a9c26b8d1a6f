package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// repository is where the source is.
const repository = "https://github.com/neolith/daemon-gateway"

// source is what is built: a commit.
type source struct {
	root     string // the repository's folder
	revision string
	created  time.Time // when the commit was made: the time of everything that is built
}

func readSource(ctx context.Context, root string) (s source, err error) {
	s.root = root
	if s.revision, err = s.git(ctx, "rev-parse", "HEAD"); err != nil {
		return source{}, err
	}
	text, err := s.git(ctx, "show", "--no-patch", "--format=%ct", "HEAD")
	if err != nil {
		return source{}, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return source{}, fmt.Errorf("time of the commit: %w", err)
	}
	s.created = time.Unix(seconds, 0).UTC()
	return s, nil
}

// checkRelease returns why a version cannot be built from here: what is built would
// not be the commit that it says.
func (s source) checkRelease(ctx context.Context, version string) error {
	changes, err := s.git(ctx, "status", "--porcelain")
	if err != nil {
		return err
	}
	if changes != "" {
		return fmt.Errorf("there are changes that are not committed:\n%s", changes)
	}
	tagged, err := s.git(ctx, "tag", "--list", "v"+version)
	if err != nil || tagged == "" {
		return err
	}
	revision, err := s.git(ctx, "rev-parse", tagged+"^{commit}")
	if err == nil && revision != s.revision {
		err = fmt.Errorf("%s is commit %s: check it out", tagged, revision)
	}
	return err
}

// files returns the names of the committed files below a folder, sorted.
func (s source) files(ctx context.Context, folder string) ([]string, error) {
	text, err := s.git(ctx, "ls-files", "-z", "--", folder)
	return strings.Split(strings.Trim(text, "\x00"), "\x00"), err
}

func (s source) git(ctx context.Context, args ...string) (string, error) {
	return run(exec.CommandContext(ctx, "git", append([]string{"-C", s.root}, args...)...))
}

// run returns what a command has written to its output, without the line's end.
func run(cmd *exec.Cmd) (string, error) {
	var said, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, complaint.String())
	}
	return strings.TrimSpace(said.String()), nil
}
