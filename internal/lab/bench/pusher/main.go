// Command pusher is the limit of an edge: a WebSocket server that pushes one and
// the same message to all connections in turn, as fast as it can, and reads
// nothing. Its arguments are the address to listen on, for how many connections
// it waits, and the size of the message.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/coder/websocket"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pusher:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("expected an address, a number of connections and a size, got %q", args)
	}
	connections, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	opened := make(chan *websocket.Conn)
	var frames atomic.Int64
	go push(opened, connections, make([]byte, size), &frames)
	mux := http.NewServeMux()
	mux.HandleFunc("/frames", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, frames.Load()) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // it has been answered
		}
		opened <- c
		_, frame, err := c.Reader(r.Context())
		if err == nil {
			_, _ = io.Copy(io.Discard, frame)
		}
	})
	return http.ListenAndServe(args[0], mux)
}

// push waits for the connections, and then writes to them for ever.
func push(opened <-chan *websocket.Conn, connections int, message []byte, frames *atomic.Int64) {
	for i := range message {
		message[i] = 'a'
	}
	writers := runtime.GOMAXPROCS(0)
	shares := make([][]*websocket.Conn, writers)
	for i := range connections {
		shares[i%writers] = append(shares[i%writers], <-opened)
	}
	for _, share := range shares {
		go func() {
			for {
				for _, c := range share {
					if c.Write(context.Background(), websocket.MessageText, message) != nil {
						return // whoever measures has gone
					}
					frames.Add(1)
				}
			}
		}()
	}
}
