package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	partitions = 8
	// window is DUPLICATE_WINDOW: shorter than the way from a backup to its
	// restoration, as with real disasters.
	window = 10 * time.Second
	// patience bounds what must not take long: starting, and being delivered.
	patience = 90 * time.Second
)

// programs are what a cluster consists of, and the operator's.
type programs struct {
	cluster         cluster.Binaries
	backup, restore string
}

func build(ctx context.Context, dir string) (programs, error) {
	binaries, err := cluster.Build(ctx, dir)
	if err != nil {
		return programs{}, err
	}
	const commands = "github.com/neolith/daemon-gateway/cmd/"
	if err := process.GoBuild(ctx, dir+string(filepath.Separator), commands+"gateway-backup", commands+"gateway-restore"); err != nil {
		return programs{}, err
	}
	return programs{binaries, filepath.Join(dir, "gateway-backup"), filepath.Join(dir, "gateway-restore")}, nil
}

// world is a cluster with its database.
type world struct {
	*cluster.Cluster
	options  options
	programs programs
	database *testserver.PostgresProcess
	log      *traffic.Log
	report   *report
}

func newWorld(ctx context.Context, o options, p programs) (*world, error) {
	database, err := testserver.StartPostgres()
	if err != nil {
		return nil, err
	}
	w := &world{options: o, programs: p, database: database, report: newReport()}
	if err := w.start(ctx); err != nil {
		if w.Cluster != nil {
			err = fmt.Errorf("%w\n%s", err, w.Report(20))
		}
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context) error {
	if err := w.database.CreateNeolith(everybody()...); err != nil {
		return err
	}
	c, err := cluster.New(cluster.Config{
		Binaries: w.programs.cluster, Dir: w.options.dir, NATS: 3, Bridges: 2, Routers: 2, Edges: 3,
		Settings: map[string]string{
			"PARTITIONS": strconv.Itoa(partitions), "STREAM_REPLICAS": "3", "DUPLICATE_WINDOW": window.String(),
			"DATABASE_URL": w.database.URL(), "PRESENCE_GRACE": "1s", "LOG_LEVEL": w.options.level,
		},
	})
	if err != nil {
		return err
	}
	w.Cluster = c
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.Start(ctx); err != nil {
		return err
	}
	w.log, err = traffic.OpenLog(w.NATSURL())
	return err
}

func (w *world) close() {
	if w.log != nil {
		w.log.Close()
	}
	if w.Cluster != nil {
		w.Close()
	}
	w.database.Remove()
}

// operate runs one of the gateway's programs as an operator does.
func (w *world) operate(ctx context.Context, program string, environ ...string) error {
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(environ, "NATS_URL="+w.NATSURL(), "BACKUP_DIR="+w.backups())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, out)
	}
	return nil
}

func (w *world) backups() string { return filepath.Join(w.options.dir, "backups") }

// dump takes a backup of Neolith's database as an operator does.
func (w *world) dump(name string, args ...string) error {
	file, err := os.Create(filepath.Join(w.options.dir, name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	cmd, err := w.database.Program("pg_dump", append(args, "--format=custom", w.database.URL())...)
	if err != nil {
		return err
	}
	cmd.Dir, cmd.Stdout = "/", file
	return runProgram(cmd)
}

// undump restores it into an empty database.
func (w *world) undump(name string) error {
	file, err := os.Open(filepath.Join(w.options.dir, name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	cmd, err := w.database.Program("pg_restore", "--exit-on-error", "--single-transaction", "--dbname="+w.database.URL())
	if err != nil {
		return err
	}
	cmd.Dir, cmd.Stdin = "/", file
	return runProgram(cmd)
}

func runProgram(cmd *exec.Cmd) error {
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, complaint.String())
	}
	return nil
}

// loseNATS deletes what the NATS servers keep; they must not run.
func (w *world) loseNATS() (err error) {
	for _, s := range w.NATS {
		err = errors.Join(err, os.RemoveAll(s.Data))
	}
	return err
}

// restart stops nodes in order, one after the other, and starts them again.
func (w *world) restart(ctx context.Context, nodes []*cluster.Node) error {
	for _, n := range nodes {
		if err := n.Stop(ctx); err != nil {
			return err
		}
		if err := n.Start(); err != nil {
			return err
		}
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return w.AwaitReady(ctx)
}

// last returns the last sequence of each partition.
func (w *world) last(ctx context.Context) (last [partitions]uint64, err error) {
	for p := range last {
		s, err := w.log.JetStream().Stream(ctx, event.StreamName(event.Partition(p)))
		if err != nil {
			return last, err
		}
		last[p] = s.CachedInfo().State.LastSeq
	}
	return last, nil
}

// lagging returns the streams that have a replica that is not current.
func (w *world) lagging(ctx context.Context) (streams []string, err error) {
	all := w.log.JetStream().ListStreams(ctx)
	for info := range all.Info() {
		current := info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == 2
		for _, r := range info.Cluster.Replicas {
			current = current && r.Current && !r.Offline
		}
		if !current {
			streams = append(streams, info.Config.Name)
		}
	}
	return streams, all.Err()
}

// until waits until something holds.
func until(ctx context.Context, what string, holds func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", what, ctx.Err()), err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
