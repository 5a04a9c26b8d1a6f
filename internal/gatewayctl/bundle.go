package gatewayctl

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/operation"
)

// bundled is what came of a bundle.
type bundled struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
	Nodes int    `json:"nodes"`
	// Missing is what could not be had, and why.
	Missing []string           `json:"missing"`
	Silent  []operation.Member `json:"silent"`
}

func (p *program) bundleCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Gather what somebody who helps needs, into one .tar.gz",
		Long: "Gather what somebody who helps needs, into one .tar.gz: status and doctor's findings, and of each node version, settings with secrets " +
			"masked, metrics, profiles (goroutines and memory) and its last log lines. It holds no secret and no event's payload, but ids of " +
			"orchestrators and daemons, and addresses. What a node that is silent has is missing.",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVarP(&file, "file", "f", "", "where to write it (default gateway-bundle-<time>.tar.gz)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.ask(func(client *operation.Client) error {
			b, err := p.bundle(cmd.Context(), client, cmp.Or(file, "gateway-bundle-"+time.Now().UTC().Format("20060102-150405")+".tar.gz"))
			if err != nil {
				return err
			}
			err = p.show(b, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d bytes, of %d nodes\n", b.File, b.Bytes, b.Nodes)
				for _, m := range b.Missing {
					fmt.Fprintln(w, "missing: "+m)
				}
				silent(w, b.Silent)
			})
			return errors.Join(err, silence(b.Silent))
		})
	}
	return c
}

// bundle writes what can be had; a file that is there already stays.
func (p *program) bundle(ctx context.Context, client *operation.Client, file string) (b bundled, err error) {
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return b, fmt.Errorf("write the bundle: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	packed := gzip.NewWriter(out)
	g := &bundling{program: p, client: client, now: time.Now(), archive: tar.NewWriter(packed), root: strings.TrimSuffix(baseName(file), ".tar.gz")}
	g.whole(ctx)
	g.ofNodes(ctx)
	if err := errors.Join(g.failed, ctx.Err(), g.archive.Close(), packed.Close()); err != nil {
		return b, fmt.Errorf("write the bundle: %w", err)
	}
	info, err := out.Stat()
	if err != nil {
		return b, fmt.Errorf("write the bundle: %w", err)
	}
	return bundled{File: file, Bytes: info.Size(), Nodes: len(g.nodes), Missing: orNone(g.missing), Silent: orNone(g.silent)}, nil
}

func baseName(file string) string { return file[strings.LastIndexByte(file, '/')+1:] }

// bundling is one under way.
type bundling struct {
	program *program
	client  *operation.Client
	now     time.Time
	archive *tar.Writer
	root    string
	failed  error // to write
	missing []string
	nodes   []operation.Member
	silent  []operation.Member
}

// add puts a file into the archive.
func (g *bundling) add(name string, content []byte) {
	if g.failed != nil {
		return
	}
	g.failed = g.archive.WriteHeader(&tar.Header{Name: g.root + "/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: g.now})
	if g.failed == nil {
		_, g.failed = g.archive.Write(content)
	}
}

// result adds a finding, as scripts and as people read it, or notes that it is
// missing.
func (g *bundling) result(name string, found any, print func(io.Writer), err error) {
	if err != nil {
		g.missing = append(g.missing, name+": "+err.Error())
		return
	}
	data, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		g.failed = err
		return
	}
	g.add(name+".json", append(data, '\n'))
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	print(table)
	g.failed = errors.Join(g.failed, table.Flush())
	g.add(name+".txt", text.Bytes())
}

// whole adds what is about all nodes together.
func (g *bundling) whole(ctx context.Context) {
	about := map[string]string{"made": g.now.UTC().Format(time.RFC3339), "gatewayctl": buildinfo.Get().String(), "nats": g.client.NC.ConnectedServerVersion()}
	g.result("about", about, func(w io.Writer) {
		for _, name := range []string{"made", "gatewayctl", "nats"} {
			row(w, name, about[name])
		}
	}, nil)
	found, err := askNodes(ctx, g.client)
	g.result("nodes", found, found.print, err)
	g.silent = found.Silent
	served, err := askPartitions(ctx, g.client)
	g.result("partitions", served, served.print, err)
	s := summarize(found, served)
	g.result("status", s, s.print, nil)
	refused, err := askRefusals(ctx, g.client, refusalQuery{group: "all", since: time.Hour, limit: 1000})
	g.result("refusals", refused, refused.print, err)
	balanced, err := askBalance(ctx, g.client, operation.BalanceRequest{DryRun: true})
	g.result("balance", balanced, balanced.print, err)
	x, err := g.program.examine(ctx, g.client, "")
	if err != nil {
		x = &examination{}
	}
	g.result("doctor", x, x.print, err)
}

// ofNodes adds what each node tells of itself.
func (g *bundling) ofNodes(ctx context.Context) {
	gatherFiles(ctx, g, operation.Settings, struct{}{}, "settings.txt", func(r operation.SettingsReport) ([]byte, error) { return []byte(r.Settings), nil })
	gatherFiles(ctx, g, operation.Metrics, struct{}{}, "metrics.txt", func(r operation.MetricsReport) ([]byte, error) { return decompress(r.Metrics) })
	gatherFiles(ctx, g, operation.Log, struct{}{}, "log.jsonl", func(r operation.LogReport) ([]byte, error) {
		return []byte(strings.Join(append(r.Lines, ""), "\n")), nil
	})
	gatherFiles(ctx, g, operation.Profile, operation.ProfileRequest{Profile: "goroutine"}, "goroutines.txt",
		func(r operation.ProfileReport) ([]byte, error) { return decompress(r.Profile) })
	gatherFiles(ctx, g, operation.Profile, operation.ProfileRequest{Profile: "heap"}, "heap.pb.gz",
		func(r operation.ProfileReport) ([]byte, error) { return r.Profile, nil })
}

// gatherFiles adds a file of each node that answers, tier by tier: the answers of a
// large cluster are large.
func gatherFiles[R any](ctx context.Context, g *bundling, verb operation.Verb, request any, name string, content func(R) ([]byte, error)) {
	for _, tier := range operation.Tiers {
		answers, err := g.client.Ask(ctx, verb, request, tier)
		if err != nil {
			g.missing = append(g.missing, fmt.Sprintf("%s of tier %s: %v", name, tier, err))
			continue
		}
		for _, m := range answers.Silent {
			if !slices.Contains(g.silent, m) {
				g.silent = append(g.silent, m)
			}
		}
		err = operation.Each(answers, func(of operation.Member, report R) {
			if !slices.Contains(g.nodes, of) {
				g.nodes = append(g.nodes, of)
			}
			data, err := content(report)
			if err != nil {
				g.missing = append(g.missing, fmt.Sprintf("%s of %s %s: %v", name, of.Tier, of.Node, err))
				return
			}
			g.add(fmt.Sprintf("%s-%s/%s", of.Tier, strings.ReplaceAll(of.Node, "/", "_"), name), data)
		})
		if err != nil {
			g.missing = append(g.missing, fmt.Sprintf("%s: %v", name, err))
		}
	}
}
