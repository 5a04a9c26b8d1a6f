package conversation

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/internal/auth"
	"github.com/neolith/daemon-gateway/internal/edge/session"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

const secret settings.Secret = "a-secret-of-the-tests-with-enough-bytes"

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func config(t *testing.T) *Config {
	t.Helper()
	cfg := settings.Default[auth.Config]()
	cfg.DaemonJWTSecret = secret
	v, err := auth.New(cfg)
	require.NoError(t, err)
	return &Config{
		Verifier: v, AuthTimeout: 10 * time.Second, HeartbeatInterval: 30 * time.Second,
		Rates: Rates{MessagesPerMinute: 5, AcksPerMinute: 60},
	}
}

// talk drives one conversation with a clock of its own.
type talk struct {
	*testing.T
	Conversation
	cfg    *Config
	now    time.Time
	limits *Limits
	n      int
}

func newTalk(t *testing.T) *talk {
	t.Helper()
	cfg := config(t)
	return &talk{T: t, Conversation: New(cfg, "session-1", start), cfg: cfg, now: start, limits: NewLimits(cfg.Rates)}
}

func (x *talk) say(messageType, payload string) []Effect {
	x.n++
	x.Message(fmt.Appendf(nil, `{"type":%q,"id":"m%d","timestamp":"2026-11-22T10:00:00Z","payload":%s}`, messageType, x.n, payload), x.now)
	return x.Take()
}

func (x *talk) auth(orchestrator string, expires time.Time) []Effect {
	x.Helper()
	token, err := auth.Mint(secret, auth.Grant{Orchestrator: protocol.OrchestratorID(orchestrator), Daemon: "daemon", ExpiresAt: expires})
	require.NoError(x, err)
	return x.say("auth", fmt.Sprintf(`{"accessToken":%q,"daemonId":"daemon","orchestratorId":%q}`, token, orchestrator))
}

// admitted is a conversation of a daemon that has been let in until expires.
func admitted(t *testing.T, expires time.Time) *talk {
	t.Helper()
	x := newTalk(t)
	effects := x.auth("orch", expires)
	require.Len(t, effects, 1)
	require.IsType(t, Admit{}, effects[0])
	x.Admitted(x.limits, session.New(session.Config{}), x.now)
	effects = x.Take()
	require.Len(t, effects, 1)
	success := effects[0].(Reply).Payload.(protocol.AuthSuccess)
	require.Equal(t, protocol.SessionID("session-1"), success.SessionID)
	return x
}

// tickTo lets time pass as the caller would: at each Wake.
func (x *talk) tickTo(end time.Time) (effects []Effect) {
	x.Helper()
	for steps := 0; ; steps++ {
		require.Less(x, steps, 1000, "it wants to be woken for ever")
		wake := x.Wake()
		if wake.IsZero() || wake.After(end) {
			x.now = end
			return effects
		}
		if wake.After(x.now) {
			x.now = wake
		}
		x.Tick(x.now)
		effects = append(effects, x.Take()...)
	}
}

func closing(effects []Effect) (code protocol.CloseCode) {
	for _, e := range effects {
		if c, ok := e.(Close); ok {
			code = c.Code
		}
	}
	return code
}

func TestAuthTimeout(t *testing.T) {
	t.Parallel()
	x := newTalk(t)
	require.Empty(t, x.tickTo(start.Add(10*time.Second-1)))
	effects := x.tickTo(start.Add(10 * time.Second))
	require.Equal(t, AuthRefused{auth.ReasonTimeout}, effects[0])
	require.Equal(t, protocol.CloseAuthTimeout, closing(effects))
	require.Zero(t, x.Wake())
	require.Empty(t, x.auth("orch", start.Add(time.Hour)), "too late")
}

// While it is being found out whether there is room, nothing times out.
func TestNoTimeoutWhileAdmitting(t *testing.T) {
	t.Parallel()
	x := newTalk(t)
	x.auth("orch", start.Add(time.Hour))
	require.Empty(t, x.tickTo(start.Add(time.Minute)))
	x.Refused(protocol.AuthMaxConnections, "full")
	effects := x.Take()
	require.Equal(t, protocol.AuthMaxConnections, effects[0].(Reply).Payload.(protocol.AuthError).Code)
	require.Equal(t, protocol.CloseSessionTerminated, closing(effects))
	x.Admitted(x.limits, session.New(session.Config{}), x.now)
	require.Empty(t, x.Take())
	require.False(t, x.Authenticated())
}

func TestMissedHeartbeats(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	x.now = start.Add(60 * time.Second)
	x.say("heartbeat", `{}`)
	require.Empty(t, x.tickTo(start.Add(150*time.Second-1)))
	require.Equal(t, protocol.CloseSessionTerminated, closing(x.tickTo(start.Add(150*time.Second))))
}

func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		expires, notice, end time.Duration
		spread               time.Duration // the notice comes up to so much earlier, the end later
		late                 time.Duration // the most that the end comes later
	}{
		"an hour":               {time.Hour, 58 * time.Minute, time.Hour, 30 * time.Second, 30 * time.Second},
		"a minute":              {time.Minute, 45 * time.Second, time.Minute, 15 * time.Second, 15 * time.Second},
		"expired in the leeway": {-10 * time.Second, 15 * time.Second, 20 * time.Second, 5 * time.Second, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := admitted(t, start.Add(test.expires))
			x.heartbeatBy = start.Add(24 * time.Hour)
			require.Empty(t, x.tickTo(start.Add(test.notice-test.spread-1)))
			effects := x.tickTo(start.Add(test.notice))
			require.Len(t, effects, 1)
			require.Equal(t, protocol.TokenExpiring{ExpiresAt: start.Add(test.end)}, effects[0].(Reply).Payload)
			require.Empty(t, x.tickTo(start.Add(test.end-1)))
			effects = x.tickTo(start.Add(test.end + test.late))
			require.Equal(t, protocol.AuthTokenExpired, effects[0].(Reply).Payload.(protocol.AuthError).Code)
			require.Equal(t, protocol.CloseTokenExpired, closing(effects))
		})
	}
}

// authNotBefore shows a token that is good only later.
func (x *talk) authNotBefore(notBefore time.Time) []Effect {
	x.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"orchestratorId": "orch", "daemonId": "daemon", "type": "access",
		"nbf": notBefore.Unix(), "exp": notBefore.Add(time.Hour).Unix(),
	}).SignedString([]byte(secret))
	require.NoError(x, err)
	return x.say("auth", fmt.Sprintf(`{"accessToken":%q,"daemonId":"daemon","orchestratorId":"orch"}`, token))
}

// A daemon that gets 4001 does not come back by itself, so that a clock that was
// wrong for a minute cost a fleet.
func TestATokenThatIsGoodLaterIsNoReasonToStayAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ in, least, most time.Duration }{
		"soon":  {31 * time.Second, 31 * time.Second, 62 * time.Second},
		"later": {9 * time.Minute, 5 * time.Minute, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			effects := newTalk(t).authNotBefore(start.Add(test.in))
			require.Len(t, effects, 3)
			require.Equal(t, AuthRefused{auth.ReasonNotYetValid}, effects[0])
			told := effects[1].(Reply).Payload.(protocol.Reconnection)
			require.Equal(t, "the access token is not valid yet", told.Reason)
			require.GreaterOrEqual(t, told.Delay, test.least)
			require.Less(t, told.Delay, test.most)
			require.Equal(t, protocol.CloseGoingAway, closing(effects))
		})
	}
}

// No clock is a day wrong for long: the daemon needs another token.
func TestATokenThatIsGoodTomorrowIsRefused(t *testing.T) {
	t.Parallel()
	effects := newTalk(t).authNotBefore(start.Add(24 * time.Hour))
	require.Equal(t, AuthRefused{auth.ReasonNotYetValid}, effects[0])
	require.Equal(t, protocol.CloseAuthFailed, closing(effects))
}

func TestATokenThatIsGoodLaterDoesNotEndTheSession(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	effects := x.authNotBefore(start.Add(time.Minute))
	require.Len(t, effects, 2)
	require.Equal(t, AuthRefused{auth.ReasonNotYetValid}, effects[0])
	require.Equal(t, "m2", effects[1].(Reply).Payload.(*protocol.Fault).InReplyTo)
	require.True(t, x.Authenticated())
}

// An issuer that was away issues to all at once. Two hundred were closed within
// 0.01 s, and came back together.
func TestWhatExpiresTogetherEndsOverATime(t *testing.T) {
	t.Parallel()
	const n = 200
	var notices, ends []time.Duration
	for i := range n {
		x := newTalk(t)
		x.Conversation = New(x.cfg, protocol.SessionID(fmt.Sprintf("session-%d", i)), start)
		x.auth("orch", start.Add(time.Hour))
		x.Admitted(x.limits, session.New(session.Config{}), x.now)
		notices = append(notices, x.noticeAt.Sub(start))
		ends = append(ends, x.closeAt.Sub(start))
	}
	for name, times := range map[string][]time.Duration{"notices": notices, "ends": ends} {
		slices.Sort(times)
		require.Less(t, times[n-1]-times[0], auth.Leeway, name)
		for i := range n - n/4 {
			require.Greater(t, times[i+n/4]-times[i], auth.Leeway/8, "%s: no quarter of them comes together", name)
		}
	}
	require.GreaterOrEqual(t, ends[0], time.Hour)
}

func TestWhatTheScopesLackIsNamed(t *testing.T) {
	t.Parallel()
	x := newTalk(t)
	token, err := auth.Mint(secret, auth.Grant{Orchestrator: "orch", Daemon: "daemon", Scopes: []string{"messages:read"}, ExpiresAt: start.Add(time.Hour)})
	require.NoError(t, err)
	x.say("auth", fmt.Sprintf(`{"accessToken":%q,"daemonId":"daemon","orchestratorId":"orch"}`, token))
	x.Admitted(x.limits, session.New(session.Config{}), x.now)
	x.Take()
	effects := x.say("subscribe", `{"eventTypes":["message.*","channel.joined","channel.left","call.*"]}`)
	fault := effects[0].(Reply).Payload.(*protocol.Fault)
	require.Equal(t, protocol.ErrorInsufficientScope, fault.Code)
	require.Equal(t, "the token's scopes do not allow channel.joined, channel.left, call.*: missing channels:read, calls:join", fault.Message)
}

func TestAFreshTokenExtendsTheSession(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Minute))
	x.heartbeatBy = start.Add(24 * time.Hour)
	x.tickTo(start.Add(50 * time.Second))
	effects := x.auth("orch", start.Add(time.Hour))
	require.Len(t, effects, 1)
	fresh := effects[0].(Confirm)
	require.Equal(t, "m2", fresh.InReplyTo)
	x.Confirmed(fresh.Identity, x.now)
	effects = x.Take()
	require.Len(t, effects, 1)
	require.Equal(t, start.Add(time.Hour), effects[0].(Reply).Payload.(protocol.AuthSuccess).ExpiresAt)
	require.Empty(t, x.tickTo(start.Add(57*time.Minute)))

	fresh = x.auth("orch", x.now.Add(time.Hour))[0].(Confirm)
	x.Unconfirmed(&auth.Error{Reason: auth.ReasonIdentityUnverified}, fresh.InReplyTo)
	effects = x.Take()
	require.Equal(t, AuthRefused{auth.ReasonIdentityUnverified}, effects[0])
	require.Equal(t, protocol.InternalError, effects[1].(Reply).Payload.(*protocol.Fault).Code)
	require.True(t, x.Authenticated(), "as long as its own token is good")

	require.Equal(t, AuthRefused{auth.ReasonOtherSession}, x.auth("other", x.now.Add(time.Hour))[0])
}

func TestBeforeAuthentication(t *testing.T) {
	t.Parallel()
	for _, messageType := range []string{"heartbeat", "subscribe", "unsubscribe", "ack", "dance"} {
		effects := newTalk(t).say(messageType, `{"eventTypes":["*"],"eventIds":["1"]}`)
		require.Len(t, effects, 1, messageType)
		require.Equal(t, protocol.NotAuthenticated, effects[0].(Reply).Payload.(*protocol.Fault).Code)
	}
	effects := newTalk(t).say("auth", `{}`)
	require.Equal(t, protocol.InvalidMessage, effects[0].(Reply).Payload.(*protocol.Fault).Code)
}

func limited(effects []Effect) bool {
	for _, e := range effects {
		if r, ok := e.(Reply); ok && r.Payload.Type() == protocol.TypeRateLimit {
			return true
		}
	}
	return false
}

const nothing = `{"eventTypes":["a.b"]}`

func TestMessagesOverTheLimitAreNotCarriedOut(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	for range 5 {
		require.Empty(t, x.say("unsubscribe", nothing))
	}
	x.now = start.Add(20 * time.Second)
	effects := x.say("subscribe", `{"eventTypes":["*"]}`)
	require.Equal(t, protocol.RateLimit{Action: "messages", RetryAfter: 40 * time.Second, CurrentRate: 6, MaxRate: 5}, effects[0].(Reply).Payload)
	require.Empty(t, x.delivery.Subscriptions())
	for range 5 {
		require.False(t, limited(x.say("heartbeat", `{}`)), "counted apart")
	}
	effects = x.say("heartbeat", `{}`)
	require.Equal(t, "heartbeat", effects[0].(Reply).Payload.(protocol.RateLimit).Action)
	x.now = start.Add(time.Minute)
	require.Empty(t, x.say("unsubscribe", nothing))
}

// Ten daemons that sent without end made the other daemons of their edge wait
// fifty times as long for their events.
func TestADaemonOverTheLimitIsReadSlowly(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]*talk{"authenticated": admitted(t, start.Add(time.Hour)), "anonymous": newTalk(t)} {
		t.Run(name, func(t *testing.T) {
			answered, began := 0, x.now
			for x.now.Before(began.Add(30 * time.Second)) {
				paused := time.Duration(0)
				for _, e := range x.say("nonsense", `{}`) {
					switch e := e.(type) {
					case Pause:
						paused += e.For
					case Reply:
						answered++
					}
				}
				require.Less(t, answered, 10_000)
				x.now = x.now.Add(paused + time.Microsecond)
			}
			require.InDelta(t, 5+30/overPause.Seconds(), answered, 2, "as many as it may, and then one a pause")
		})
	}
}

func TestAFloodOfAWholeFurtherMinuteEndsTheConnection(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	for second := range 200 {
		x.now = start.Add(time.Duration(second) * time.Second)
		effects := x.say("unsubscribe", nothing)
		if closing(effects) != 0 {
			require.Equal(t, protocol.CloseRateLimited, closing(effects))
			require.Equal(t, protocol.RateLimited, effects[2].(Reply).Payload.(*protocol.Fault).Code)
			require.GreaterOrEqual(t, second, 65, "over the limit from the fifth second on")
			require.Empty(t, x.say("heartbeat", `{}`))
			return
		}
	}
	require.Fail(t, "never closed")
}

func TestWhoHeedsTheLimitIsNotClosed(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(10*time.Hour))
	x.heartbeatBy = start.Add(10 * time.Hour)
	for range 20 {
		for !limited(x.say("unsubscribe", nothing)) {
			x.now = x.now.Add(time.Second)
		}
		x.now = x.now.Add(time.Minute)
	}
	require.True(t, x.Authenticated())
}

// Acks are all carried out; over the limit only the reading slows down, and a
// daemon whose heartbeats wait behind its acks is not given up for that.
func TestAcksAreNeverDropped(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	acked, paused := 0, time.Duration(0)
	for range 200 {
		for _, e := range x.say("ack", `{"eventIds":["1"]}`) {
			switch e := e.(type) {
			case Acked:
				acked++
			case Pause:
				paused += e.For
				x.now = x.now.Add(e.For)
			default:
				require.Fail(t, "unexpected", "%T", e)
			}
		}
	}
	require.Equal(t, 200, acked)
	require.InDelta(t, 140, paused.Seconds(), 1, "a minute's worth at once, one a second after")
	require.Empty(t, x.tickTo(x.now))
}

func TestLimitsAreOfTheOrchestrator(t *testing.T) {
	t.Parallel()
	x, y := admitted(t, start.Add(time.Hour)), newTalk(t)
	y.limits = x.limits
	y.auth("orch", start.Add(time.Hour))
	y.Admitted(y.limits, session.New(session.Config{}), start)
	y.Take()
	for range 5 {
		require.Empty(t, x.say("unsubscribe", nothing))
	}
	require.True(t, limited(y.say("unsubscribe", nothing)))
	require.False(t, x.limits.Idle(start.Add(time.Minute-1)))
	require.True(t, x.limits.Idle(start.Add(time.Minute)))
}

func TestTooManyChannels(t *testing.T) {
	t.Parallel()
	x := admitted(t, start.Add(time.Hour))
	x.limits.rates.MessagesPerMinute = 100
	subscribe := func(pattern string, first int) []Effect {
		list := ""
		for i := range 1000 {
			list += fmt.Sprintf(`"c%d",`, first+i)
		}
		return x.say("subscribe", fmt.Sprintf(`{"eventTypes":[%q],"channelIds":[%s]}`, pattern, list[:len(list)-1]))
	}
	for i := range 5 {
		require.Empty(t, subscribe("message.*", 1000*i))
	}
	fault := subscribe("message.*", 9000)[0].(Reply).Payload.(*protocol.Fault)
	require.Equal(t, "payload.channelIds", fault.Field)
	require.Empty(t, x.say("subscribe", `{"eventTypes":["call.*"]}`), "without channels there is room")
}

func TestDivertedAndSentAway(t *testing.T) {
	t.Parallel()
	x := newTalk(t)
	x.auth("orch", start.Add(time.Hour))
	x.Diverted("draining", time.Second, protocol.CloseGoingAway)
	effects := x.Take()
	require.Equal(t, protocol.Reconnection{Reason: "draining", Delay: time.Second}, effects[0].(Reply).Payload)
	require.Equal(t, protocol.CloseGoingAway, closing(effects))

	y := admitted(t, start.Add(time.Hour))
	y.Reconnect("draining", time.Minute)
	require.Len(t, y.Take(), 1)
	require.True(t, y.Authenticated())
	y.Refuse("too big")
	require.Equal(t, protocol.InvalidMessage, y.Take()[0].(Reply).Payload.(*protocol.Fault).Code)
	y.End(protocol.CloseTooLarge, "")
	require.Empty(t, y.Take())
}

func TestWhatBreaksAConnectionAndWhatEndsItGracefully(t *testing.T) {
	t.Parallel()
	const abnormal = protocol.CloseAbnormal
	tests := map[string]struct {
		before func(x *talk)
		code   protocol.CloseCode
		byPeer bool
		broke  bool
	}{
		"cut off":               {func(*talk) {}, abnormal, true, true},
		"closed by the daemon":  {func(*talk) {}, protocol.CloseNormal, true, false},
		"the daemon goes away":  {func(*talk) {}, protocol.CloseGoingAway, true, false},
		"closed without a code": {func(*talk) {}, protocol.CloseNoStatus, true, false},
		"the edge stops":        {func(x *talk) { x.End(protocol.CloseGoingAway, "") }, protocol.CloseGoingAway, false, false},
		"replaced by a newer connection": {
			func(x *talk) { x.End(protocol.CloseSessionTerminated, "replaced") }, protocol.CloseSessionTerminated, false, false,
		},
		"missed heartbeats": {func(x *talk) { x.tickTo(start.Add(90 * time.Second)) }, protocol.CloseSessionTerminated, false, true},
		"a frame too large": {func(x *talk) { x.Refuse("too large") }, protocol.CloseTooLarge, false, true},
		"cut off after it was asked to reconnect": {
			func(x *talk) { x.Reconnect("balancing", time.Second) }, abnormal, true, false,
		},
		"cut off when its token was about to expire": {
			func(x *talk) { x.alive(start.Add(time.Hour)); x.tickTo(start.Add(58 * time.Minute)) }, abnormal, true, false,
		},
		"cut off after it got a fresh token": {func(x *talk) {
			x.alive(start.Add(time.Hour))
			x.tickTo(start.Add(58 * time.Minute))
			x.Confirmed(x.auth("orch", start.Add(3*time.Hour))[0].(Confirm).Identity, x.now)
		}, abnormal, true, true},
		"its token has expired": {
			func(x *talk) { x.alive(start.Add(time.Hour)); x.tickTo(start.Add(time.Hour)) }, protocol.CloseTokenExpired, false, false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := admitted(t, start.Add(time.Hour))
			tt.before(x)
			require.Equal(t, tt.broke, x.Broke(tt.code, tt.byPeer))
		})
	}
}
