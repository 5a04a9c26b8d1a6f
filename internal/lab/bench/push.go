package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
)

const pusher = "github.com/neolith/daemon-gateway/internal/lab/bench/pusher"

const pushCPU = "bare push, CPU of server, µs each"

// limitOfPush has a bare server push events to connections as fast as it can.
func (b *bench) limitOfPush(ctx context.Context) error {
	program := filepath.Join(b.Dir, "pusher")
	if err := process.GoBuild(ctx, "", program, pusher); err != nil {
		return err
	}
	address, err := process.Reserve(process.Loopback)
	if err != nil {
		return err
	}
	server := process.New(process.Config{
		Name: "pusher", Dir: b.Dir, Program: program, Args: []string{address, strconv.Itoa(b.options.daemons), strconv.Itoa(eventBytes)},
	})
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Kill()
	var sinks sync.WaitGroup
	defer sinks.Wait()
	defer server.Kill() // ends what they read
	for range b.options.daemons {
		var conn net.Conn
		if err := server.Await(ctx, func() (err error) { conn, err = sink(address); return err }); err != nil {
			return err
		}
		sinks.Go(func() {
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, conn, make([]byte, 8192))
			_ = conn.Close()
		})
	}
	traffic.Wait(ctx, b.options.warmUp)
	before, err := b.pushed(ctx, server, address)
	if err != nil {
		return err
	}
	after := before
	for after.frames-before.frames < leastMessages {
		traffic.Wait(ctx, b.options.duration)
		if after, err = b.pushed(ctx, server, address); err != nil {
			return err
		}
	}
	n := after.frames - before.frames
	b.results.add("bare push, frames/s", limit, n/after.at.Sub(before.at).Seconds())
	if cpu := (after.cpu - before.cpu).Seconds() / n * 1e6; cpu > 0 {
		b.results.add(pushCPU, limit, cpu)
		for _, in := range b.ways() {
			b.results.add(in.name+", CPU of edges, µs each", limit, cpu)
		}
	}
	return nil
}

// sink upgrades a connection.
func sink(address string) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n", address)
	if err == nil {
		var answer *http.Response
		if answer, err = http.ReadResponse(bufio.NewReader(conn), nil); err == nil && answer.StatusCode != http.StatusSwitchingProtocols {
			err = fmt.Errorf("the upgrade is answered with %s", answer.Status)
		}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// pushed is how much the server has pushed so far.
type pushed struct {
	at     time.Time
	frames float64
	cpu    time.Duration
}

func (b *bench) pushed(ctx context.Context, server *process.Process, address string) (p pushed, err error) {
	answer, err := process.Get(ctx, "http://"+address+"/frames")
	if err != nil {
		return p, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return p, err
	}
	p.at = time.Now()
	usage, err := server.Usage()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return p, err
	}
	p.cpu = usage.CPU
	p.frames, err = strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	return p, err
}
