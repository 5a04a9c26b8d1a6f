package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// programs are those that are released, by their folders in cmd; those of the
// Dockerfile.
var programs = []string{
	"edge", "router", "publisher-bridge", "gateway-admin", "gatewayctl",
}

// formerly are the names that commands of gatewayctl had as programs of their own. They
// are links to it.
var formerly = []string{"gateway-backup", "gateway-restore", "gateway-probe"}

// links are those beside the programs in a folder of an archive, where gatewayctl is one
// of these.
func links(folder string, list []program) (entries []entry) {
	if slices.ContainsFunc(list, func(p program) bool { return p.name == "gatewayctl" }) {
		for _, name := range formerly {
			entries = append(entries, entry{name: folder + name, mode: 0o777, link: "gatewayctl"})
		}
	}
	return entries
}

// defaults are those of the command line that are said here.
var defaults = kong.Vars{
	"programs":  strings.Join(programs, ","),
	"platforms": "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64",
	"byHand":    repository + "/blob/main/docs/releasing.md#by-hand",
}

// platform is what a program runs on.
type platform struct{ os, arch string }

// UnmarshalText reads such as linux/amd64.
func (p *platform) UnmarshalText(text []byte) error {
	var found bool
	if p.os, p.arch, found = strings.Cut(string(text), "/"); !found {
		return fmt.Errorf("%q: expected a platform such as linux/amd64", text)
	}
	return nil
}

func (p platform) String() string { return p.os + "_" + p.arch }

// compiler is everything that decides what a program is compiled to, beside the
// source, the version and the toolchain: nothing comes from the environment.
var compiler = struct {
	flags       []string
	environment []string
}{
	flags: []string{"-trimpath", "-buildvcs=false"},
	environment: []string{
		"CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off", "GOTOOLCHAIN=local",
	},
}

// compile builds programs for a platform into a folder. They are static, and keep
// their table of symbols, by which govulncheck finds what they call.
func (s source) compile(ctx context.Context, version string, p platform, names []string, folder string) error {
	const buildinfo = "github.com/neolith/daemon-gateway/internal/buildinfo"
	args := append([]string{"build"}, compiler.flags...)
	args = append(args, "-ldflags", "-w -X "+buildinfo+".version="+version+" -X "+buildinfo+".revision="+s.revision, "-o", folder+"/")
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = s.root
	build.Env = append(append(os.Environ(), compiler.environment...), "GOOS="+p.os, "GOARCH="+p.arch)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	_, err := run(build)
	return err
}

// program is one that was compiled.
type program struct {
	name, path string
	info       *buildinfo.BuildInfo
}

// compiled returns the programs in a folder, as they say themselves what they are.
func compiled(folder string, names []string) ([]program, error) {
	list := make([]program, len(names))
	for i, name := range names {
		path := filepath.Join(folder, name)
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, setting := range info.Settings {
			if setting.Key == "CGO_ENABLED" && setting.Value != "0" {
				return nil, errors.New(name + " is not static: the image has no libraries")
			}
		}
		list[i] = program{name, path, info}
	}
	return list, nil
}
