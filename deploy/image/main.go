// Command image writes the gateway's container image without Docker: a tar
// archive that is an OCI image layout and what `docker save` writes at once, so
// that docker load, podman load, ctr images import, skopeo and kind load
// image-archive all take it. It holds the same as the image of the Dockerfile:
// static programs, certificates of authorities, a numeric user, labels.
//
// The same input gives the same bytes.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"
)

// options are the command line.
type options struct {
	Name     string   `help:"Name and tag of the image, such as daemon-gateway:1.0.0." required:""`
	Output   string   `help:"File to write." required:""`
	Version  string   `help:"Version for the labels." default:"devel"`
	Revision string   `help:"Commit for the labels." default:"unknown"`
	Created  int64    `help:"Time of creation for the labels, in seconds since 1970; that of the commit makes builds repeatable." default:"0"`
	Arch     string   `help:"Architecture of the programs." default:"amd64"`
	CAs      string   `name:"cas" help:"File with the certificates of the authorities to trust." default:"/etc/ssl/certs/ca-certificates.crt"`
	Programs []string `arg:"" help:"Static programs, placed in the root folder."`
}

func main() {
	var o options
	kong.Parse(&o, kong.Name("image"), kong.Description("Writes a container image without Docker."))
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	files := []file{{source: o.CAs, path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644}}
	for _, program := range o.Programs {
		if err := checkStatic(program); err != nil {
			return err
		}
		files = append(files, programFile(program))
	}
	layer, err := newLayer(files)
	if err != nil {
		return err
	}
	archive, err := newArchive(image{
		name: o.Name, version: o.Version, revision: o.Revision, arch: o.Arch, created: time.Unix(o.Created, 0).UTC(),
	}, layer)
	if err != nil {
		return err
	}
	return archive.writeTo(o.Output)
}
