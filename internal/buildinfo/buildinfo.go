// Package buildinfo says which build of the gateway a process is. Programs
// print it, gossip carries it, and /metrics exports it.
package buildinfo

import "runtime/debug"

// version and revision are set by the linker (see the Makefile and deploy/check/release);
// without them, those that the Go tool stamped into the binary are used.
var version, revision string

// Info identifies a build.
type Info struct {
	Version   string // a tag, or "devel"
	Revision  string // the git commit, or "unknown"
	GoVersion string
}

// Get returns the build of the running process.
func Get() Info {
	info := Info{Version: version, Revision: revision, GoVersion: "unknown"}
	build, ok := debug.ReadBuildInfo()
	if ok {
		info.GoVersion = build.GoVersion
		if info.Version == "" {
			info.Version = build.Main.Version
		}
		for _, s := range build.Settings {
			if s.Key == "vcs.revision" && info.Revision == "" {
				info.Revision = s.Value
			}
		}
	}
	if info.Version == "" || info.Version == "(devel)" {
		info.Version = "devel"
	}
	if info.Revision == "" {
		info.Revision = "unknown"
	}
	return info
}

// String returns one line such as "v1.2.0 (revision 71fa7aa, go1.26.8)".
func (i Info) String() string {
	return i.Version + " (revision " + i.Revision + ", " + i.GoVersion + ")"
}
