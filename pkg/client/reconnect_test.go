package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestRefusalForGoodEndsRun(t *testing.T) {
	t.Parallel()
	for _, code := range []protocol.AuthErrorCode{protocol.AuthFailed, protocol.AuthInsufficientScope} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, g *gateway) {
				d := start(t, g)
				p := g.connection()
				p.next()
				p.send(protocol.AuthError{Code: code, Message: "no"})
				p.close(code.CloseCode())
				var rejected *client.RejectedError
				require.ErrorAs(t, d.wait(), &rejected)
				require.Equal(t, client.RejectedError{Code: code, Message: "no", Close: code.CloseCode()}, *rejected)
				require.Equal(t, code.CloseCode(), d.state(client.StateDisconnected).Close)
				require.Equal(t, error(rejected), d.state(client.StateStopped).Err)
			})
		})
	}
}

func TestCloseCodeAloneEndsRunAsWell(t *testing.T) {
	t.Parallel()
	for _, code := range []protocol.CloseCode{protocol.CloseAuthFailed, protocol.CloseInsufficientScope} {
		bubble(t, func(t *testing.T, g *gateway) {
			d := start(t, g)
			g.authenticated().close(code)
			var rejected *client.RejectedError
			require.ErrorAs(t, d.wait(), &rejected)
			require.Equal(t, client.RejectedError{Message: code.String(), Close: code}, *rejected)
		})
	}
}

func TestOtherEndsLeadToANewConnectionWithTheWaitTheyCallFor(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		end         func(*peer)
		close       protocol.CloseCode
		least, most time.Duration
	}{
		"token expired": {func(p *peer) {
			p.send(protocol.AuthError{Code: protocol.AuthTokenExpired})
			p.close(protocol.CloseTokenExpired)
		}, protocol.CloseTokenExpired, 0, time.Second},
		"too many connections": {func(p *peer) {
			p.send(protocol.AuthError{Code: protocol.AuthMaxConnections})
			p.close(protocol.CloseSessionTerminated)
		}, protocol.CloseSessionTerminated, 0, time.Second},
		"refused, never closed": {func(p *peer) { p.send(protocol.AuthError{Code: protocol.AuthTokenExpired}) }, protocol.CloseAbnormal, 0, time.Second},
		"no answer to auth":     {func(*peer) {}, protocol.CloseAbnormal, 0, time.Second},
		"auth not understood": {func(p *peer) {
			p.send(&protocol.Fault{Code: protocol.InvalidMessage, Message: "payload.daemonId: is missing"})
		}, protocol.CloseAbnormal, 0, time.Second},
		"rate limited before authentication": {func(p *peer) {
			p.send(protocol.RateLimit{Action: protocol.ActionMessages, RetryAfter: 30 * time.Second})
		}, protocol.CloseAbnormal, 30 * time.Second, 30 * time.Second},
		"sent away before authentication": {func(p *peer) {
			p.send(protocol.Reconnection{Reason: "drain", Delay: 7 * time.Second})
			p.close(protocol.CloseGoingAway)
		}, protocol.CloseGoingAway, 7 * time.Second, 7 * time.Second},
		"rate limited":         {func(p *peer) { p.close(protocol.CloseRateLimited) }, protocol.CloseRateLimited, 30 * time.Second, time.Minute},
		"session terminated":   {func(p *peer) { p.close(protocol.CloseSessionTerminated) }, protocol.CloseSessionTerminated, 0, time.Second},
		"auth timeout":         {func(p *peer) { p.close(protocol.CloseAuthTimeout) }, protocol.CloseAuthTimeout, 0, time.Second},
		"cut off":              {func(p *peer) { _ = p.ws.CloseNow() }, protocol.CloseAbnormal, 0, time.Second},
		"code nobody knows of": {func(p *peer) { p.close(4999) }, 4999, 0, time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, g *gateway) {
				d := start(t, g)
				p := g.connection()
				p.next()
				tt.end(p)
				down := d.state(client.StateDisconnected)
				require.Equal(t, tt.close, down.Close)
				require.GreaterOrEqual(t, down.Delay, tt.least)
				require.LessOrEqual(t, down.Delay, tt.most)
				g.authenticated()
			})
		})
	}
}

func TestDelaysGrowUntilAConnectionHasBeenHealthy(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		longest := time.Duration(0)
		for range 40 {
			_ = g.authenticated().ws.CloseNow()
			longest = max(longest, d.state(client.StateDisconnected).Delay)
		}
		require.Greater(t, longest, 10*time.Second)
		require.LessOrEqual(t, longest, time.Minute)

		p := g.authenticated()
		time.Sleep(31 * time.Second) // the bubble's time
		_ = p.ws.CloseNow()
		require.LessOrEqual(t, d.state(client.StateDisconnected).Delay, time.Second)
	})
}

func TestTokenSourceThatFailsIsAskedAgain(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		calls := 0
		d := start(t, g, func(c *client.Config) {
			c.Token = func(context.Context) (string, error) {
				if calls++; calls == 1 {
					return "", errors.New("login is away")
				}
				return "token-1", nil
			}
		})
		require.ErrorContains(t, d.state(client.StateDisconnected).Err, "login is away")
		g.authenticated()
	})
}

func TestReconnectIsFollowedAfterItsDelayAndNotBefore(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g, func(c *client.Config) { c.AckInterval = time.Hour })
		p := g.authenticated()
		asked := time.Now()
		p.send(protocol.Reconnection{Reason: "drain", Delay: 8 * time.Second})
		time.Sleep(5 * time.Second) // the bubble's time
		p.send(sampleEvent("meanwhile"))
		require.Equal(t, []string{"meanwhile"}, nextOf[protocol.Ack](p).EventIDs)
		p.send(sampleEvent("last"))
		require.Equal(t, []string{"last"}, nextOf[protocol.Ack](p).EventIDs)
		require.Equal(t, protocol.CloseNormal, p.awaitClose())
		require.Equal(t, 8*time.Second, time.Since(asked))
		require.Zero(t, d.state(client.StateDisconnected).Delay)
		g.authenticated()
		require.Equal(t, 8*time.Second, time.Since(asked))
	})
}

func TestConnectionThatClosesBeforeItsDelayIsNotComeBackToEarlier(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		p := g.authenticated()
		time.Sleep(2 * time.Second) // the bubble's time
		p.send(protocol.Reconnection{Reason: "drain", Delay: 8 * time.Second})
		p.close(protocol.CloseGoingAway)
		require.Equal(t, 8*time.Second, d.state(client.StateDisconnected).Delay)
	})
}

// An edge that is killed while it drains used to leave its daemons without
// another for as long as it had spread them over.
func TestConnectionThatIsLostBeforeItsDelayIsComeBackToSoon(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		p := g.authenticated()
		p.send(protocol.Reconnection{Reason: "drain", Delay: 2 * time.Minute})
		time.Sleep(2 * time.Second) // the bubble's time
		_ = p.ws.CloseNow()
		down := d.state(client.StateDisconnected)
		require.Equal(t, protocol.CloseAbnormal, down.Close)
		require.LessOrEqual(t, down.Delay, time.Second)
	})
}

func TestReconnectThatIsAskedAgainAndAgainIsSlowedDown(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, g *gateway) {
		d := start(t, g)
		longest := time.Duration(0)
		for range 20 {
			g.authenticated().send(protocol.Reconnection{})
			longest = max(longest, d.state(client.StateDisconnected).Delay)
		}
		require.Greater(t, longest, 5*time.Second)
	})
}
