// Package reread reads small files again while a program runs, so that a changed
// list of keys or addresses needs no restart. What is wrong with a file is
// logged once and shown by a metric until it is mended.
package reread

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/metric"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Interval is how soon a changed file counts. The files are small, and
// Kubernetes changes mounted ones by moving links, so they are simply read.
const Interval = time.Second

// maxBytes bounds a file: it is read again every second.
const maxBytes = 4 << 20

// File is one that a setting names. Look and Watch are for one goroutine at a
// time.
type File struct {
	// Setting is the one that names the file; Path is its value.
	Setting, Path string
	// Take takes over what the file holds now. It may take a part of it and
	// return an error that says what is wrong with the rest, in words that hold
	// nothing of the file.
	Take func(content []byte) error

	logger  *slog.Logger
	faulty  atomic.Bool
	read    bool
	content []byte // as it was taken last
	problem string // as it was logged last
}

// Observe makes the file's faults known, by log and metric, from now on.
func (f *File) Observe(logger *slog.Logger, reg prometheus.Registerer) {
	f.logger = logger
	metric.GaugeFunc(reg, "gateway_file_faulty",
		"1 while a file that is read again at run time cannot be read, or has lines that cannot be used; by the setting that names it.",
		prometheus.Labels{"setting": f.Setting}, func() float64 { return metric.Truth(f.faulty.Load()) })
}

// Look reads the file, and has it taken if it has changed. An unreadable file
// leaves things as they were.
func (f *File) Look() error {
	content, err := readFile(f.Path)
	if err != nil {
		if f.read {
			err = fmt.Errorf("what was read before stays in force: %w", err)
		}
		return f.note(err)
	}
	if f.read && bytes.Equal(content, f.content) && f.problem == "" {
		return nil
	}
	changed := !f.read || !bytes.Equal(content, f.content)
	f.read, f.content = true, content
	err = f.Take(content)
	if err == nil && changed && f.logger != nil {
		f.logger.Info("file read again", "setting", f.Setting)
	}
	return f.note(err)
}

// note keeps what is wrong, and logs it where it is news.
func (f *File) note(err error) error {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	f.faulty.Store(err != nil)
	if problem != "" && problem != f.problem && f.logger != nil {
		f.logger.Error("file that is read again cannot be used as it is", "setting", f.Setting, "error", err)
	}
	f.problem = problem
	return err
}

// Watch looks at the files again and again until ctx ends.
func Watch(ctx context.Context, files ...*File) {
	lifecycle.Every(ctx, Interval, func(time.Time) {
		for _, f := range files {
			_ = f.Look() // noted
		}
	})
}

var errTooLarge = errors.New("the file is too large")

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err == nil && len(content) > maxBytes {
		err = errTooLarge
	}
	return settings.WithoutMark(content), err
}
