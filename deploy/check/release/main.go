// Command release builds what a release of the gateway consists of, from a commit
// of the repository and nothing else:
//
//	source ──▶ programs ──▶ archives ─────────────────┐
//	              │                                   ▼
//	              ├──▶ image (OCI) ──▶ chart (OCI) ──▶ provenance ──▶ checksums ──▶ signatures
//	              └──▶ bills of materials ────────────▲
//
// The same commit, version and Go toolchain give the same bytes, wherever and
// whenever it is built. `make release` runs it; docs/releasing.md says what each
// file is and how it is verified.
//
// What only a release needs is in this module, and not in the gateway's:
//
//   - go-containerregistry: images and layouts of the OCI specifications
//   - x/crypto/x509roots: the authorities that Mozilla trusts, for the image
//   - spdx/tools-golang: bills of materials; licensecheck: their licenses
//   - go-securesystemslib: signed envelopes (DSSE); its tests check what is said of
//     the build with in-toto's own types
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commandLine is what is asked for.
type commandLine struct {
	Build buildOptions `cmd:"" help:"Build a release."`
	Image imageOptions `cmd:"" help:"Build the image of one architecture alone, as an archive that docker load takes."`
}

// buildOptions say what release is built.
type buildOptions struct {
	Version    string     `help:"Version of the release, such as 1.2.0." required:""`
	Output     string     `help:"Folder for the files of the release; what is there is replaced." required:""`
	Registry   string     `help:"Where the image is to be pulled from: the chart names it there." default:"ghcr.io/neolith"`
	SigningKey string     `help:"File with the private key (ECDSA P-256, PEM) that signs the release. Unset: it is not signed." type:"existingfile"`
	Builder    string     `help:"Who builds, for the provenance: a URI." default:"${byHand}"`
	Source     string     `help:"Folder of the repository." default:"."`
	Platforms  []platform `help:"What to build for." default:"${platforms}"`
	Programs   []string   `help:"Programs to build." default:"${programs}" hidden:""`
}

// imageOptions say what image is built.
type imageOptions struct {
	Name    string `help:"Name and tag of the image, such as daemon-gateway:1.2.0." required:""`
	Version string `help:"Version of the programs." required:""`
	Output  string `help:"File to write." required:""`
	Arch    string `help:"Architecture of the image." default:"amd64"`
	Source  string `help:"Folder of the repository." default:"."`
}

func main() {
	var line commandLine
	parsed := kong.Parse(&line, kong.Name("release"), kong.Description("Builds releases of the Daemon Gateway."), defaults)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
