package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/process"
)

// What an operator does with gatewayctl.
const (
	backupTool  = "backup"
	restoreTool = "restore"
)

func (d *drill) tool() string { return filepath.Join(d.Dir, "tools", "gatewayctl") }

func (d *drill) backups() string { return filepath.Join(d.Dir, "backups") }

func (d *drill) buildTools(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(d.tool()), 0o755); err != nil {
		return err
	}
	return process.GoBuild(ctx, "", d.tool(), "github.com/neolith/daemon-gateway/cmd/gatewayctl")
}

// operate runs a command of gatewayctl.
func (d *drill) operate(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, d.tool(), command)
	cmd.Env = []string{"NATS_URL=" + d.NATSURL(), "BACKUP_DIR=" + d.backups()}
	return runProgram(cmd)
}

// dump takes a backup of Neolith's database.
func (d *drill) dump(name string, args ...string) error {
	file, err := os.Create(filepath.Join(d.Dir, name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	cmd, err := d.database.Program("pg_dump", append(args, "--format=custom", d.database.URL())...)
	if err != nil {
		return err
	}
	cmd.Dir, cmd.Stdout = "/", file
	return runProgram(cmd)
}

// restoreDatabase starts PostgreSQL again, and restores a dump.
func (d *drill) restoreDatabase(name string) error {
	if err := d.database.Begin(); err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(d.Dir, name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	cmd, err := d.database.Program("pg_restore", "--exit-on-error", "--single-transaction", "--dbname="+d.database.URL())
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

// loseNATS kills the NATS servers and deletes what they keep.
func (d *drill) loseNATS() (err error) {
	var killed sync.WaitGroup
	for _, s := range d.NATS {
		killed.Go(s.Kill)
	}
	killed.Wait()
	for _, s := range d.NATS {
		err = errors.Join(err, os.RemoveAll(s.Data))
	}
	return err
}

// restart restarts nodes gracefully, one after the other.
func (d *drill) restart(ctx context.Context, nodes []*cluster.Node) error {
	for _, n := range nodes {
		d.Do(ctx, lab.Restart, n.Process)
		d.Undo(lab.Restart, n.Process)
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return d.AwaitReady(ctx)
}
