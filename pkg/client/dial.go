package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const (
	// refusedGrace is how long to wait for the close that follows an auth_error.
	refusedGrace = 2 * time.Second
	// maxRetryAfter bounds, in seconds, what an HTTP answer may ask for.
	maxRetryAfter = 24 * 60 * 60
)

// connect makes one connection and stays on it until it ends.
func (c *Client) connect(ctx context.Context, url string) ending {
	c.report(StateChange{State: StateConnecting, URL: url})
	k := &connection{client: c, url: url, control: make(chan protocol.ServerPayload, controlRoom)}
	if err := k.open(ctx); err != nil {
		return k.ended(err)
	}
	c.report(StateChange{State: StateAuthenticated, URL: url, SessionID: k.session})
	end := k.ended(k.run(ctx))
	end.lived = time.Since(k.opened)
	return end
}

// open dials and authenticates within ConnectTimeout.
func (k *connection) open(ctx context.Context) error {
	cfg := &k.client.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	token, err := cfg.Token(ctx)
	if err != nil {
		return fmt.Errorf("get access token: %w", err)
	}
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { k.network = plain(i.Conn) }})
	ws, response, err := websocket.Dial(traced, k.url, &websocket.DialOptions{HTTPClient: k.client.http, HTTPHeader: cfg.Header})
	if err != nil {
		if refused := handshakeError(response); refused != nil {
			return refused
		}
		return fmt.Errorf("connect: %w", err)
	}
	k.ws = ws
	ws.SetReadLimit(cfg.MaxMessageBytes)
	if err := k.authenticate(ctx, token); err != nil {
		_ = ws.CloseNow()
		return err
	}
	k.opened = time.Now()
	return nil
}

// plain returns the connection under TLS, whose own Close may wait.
func plain(conn net.Conn) net.Conn {
	if encrypted, ok := conn.(*tls.Conn); ok {
		return encrypted.NetConn()
	}
	return conn
}

func handshakeError(response *http.Response) error {
	if response == nil || response.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	refused := &HandshakeError{Status: response.StatusCode}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		refused.RetryAfter = time.Duration(min(seconds, maxRetryAfter)) * time.Second
	}
	return refused
}

// authenticate sends auth and waits for the answer. After a refusal it waits a
// little for the close, whose code observers want to see.
func (k *connection) authenticate(ctx context.Context, token string) error {
	if err := k.send(ctx, k.auth(token, true)); err != nil {
		return err
	}
	for {
		payload, err := k.receive(ctx)
		switch {
		case err != nil && k.refused != nil:
			return fmt.Errorf("gateway refused the daemon: %s: %s: %w", k.refused.Code, k.refused.Message, err)
		case err != nil:
			return fmt.Errorf("wait for the answer to auth: %w", err)
		}
		switch p := payload.(type) {
		case protocol.AuthSuccess:
			k.session, k.heartbeat = p.SessionID, p.HeartbeatInterval
			return nil
		case protocol.AuthError:
			k.refused = &p
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, refusedGrace)
			defer cancel() // once: what follows is the close
		case protocol.Reconnection:
			// The gateway sends the client away before it has let it in.
			k.asked, k.leaveAt = true, time.Now().Add(p.Delay)
		case protocol.RateLimit:
			k.leaveAt = time.Now().Add(max(p.RetryAfter, minPause))
			return fmt.Errorf("gateway limits the rate of %s", p.Action)
		case *protocol.Fault:
			k.warn(p)
			if p.Code == protocol.InvalidMessage {
				return fmt.Errorf("gateway does not accept the auth message: %w", p)
			}
		}
	}
}

func (k *connection) auth(token string, first bool) protocol.Auth {
	cfg := &k.client.cfg
	auth := protocol.Auth{AccessToken: token, DaemonID: cfg.DaemonID, OrchestratorID: cfg.OrchestratorID}
	if first && cfg.Resume != nil {
		if position := cfg.Resume(); position != "" {
			auth.Resume = &protocol.Resume{Position: position}
		}
	}
	return auth
}

// send writes one message. An error ends the connection.
func (k *connection) send(ctx context.Context, payload protocol.ClientPayload) error {
	now := time.Now()
	frame, _, err := protocol.EncodeClientMessage(now, payload)
	if err != nil {
		return err
	}
	shown := frame
	if payload.Type() == protocol.TypeAuth {
		shown = nil
	}
	k.observe(Frame{Sent: true, Time: now, Type: payload.Type(), Data: shown})
	ctx, cancel := context.WithTimeout(ctx, k.client.cfg.WriteTimeout)
	defer cancel()
	if err := k.ws.Write(ctx, websocket.MessageText, frame); err != nil {
		return fmt.Errorf("send %s: %w", payload.Type(), err)
	}
	return nil
}

// receive reads one message; its payload is nil for a type that this client
// does not know.
func (k *connection) receive(ctx context.Context) (protocol.ServerPayload, error) {
	kind, data, err := k.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageText {
		return nil, errors.New("the gateway sent a binary frame")
	}
	m, err := protocol.ParseServerMessage(data)
	k.observe(Frame{Time: time.Now(), Type: m.Type, Data: data})
	if err != nil {
		k.client.cfg.Logger.Warn("message of the gateway not understood", "error", err)
		return nil, nil
	}
	return m.Payload, nil
}

func (k *connection) observe(f Frame) {
	if k.client.cfg.OnFrame != nil {
		k.client.cfg.OnFrame(f)
	}
}

// ended tells how the connection came to its end.
func (k *connection) ended(err error) ending {
	end := ending{session: k.session, refused: k.refused, asked: k.asked, leaveAt: k.leaveAt, err: err, code: protocol.CloseAbnormal}
	var frame websocket.CloseError
	switch {
	case errors.As(err, &frame):
		end.code, end.reason = protocol.CloseCode(frame.Code), frame.Reason
	case errors.Is(err, errLeft):
		end.code, end.local, end.err = protocol.CloseNormal, true, nil
	case errors.Is(err, ErrDead), errors.Is(err, context.Canceled):
		end.local = true
	}
	return end
}
