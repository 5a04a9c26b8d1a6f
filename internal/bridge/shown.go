package bridge

import (
	"net/url"
	"time"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// shown is what the admin port shows of the bridge.
func (a *App) shown() (admin.Node, error) {
	inForce, err := settings.InForce(&a.cfg)
	return admin.Node{
		Tier: string(operation.Bridge), Name: a.cfg.Node(), Registry: a.registry, Checks: a.checks(), Settings: inForce,
		Log: a.lines, Audit: a.audit, Profiles: a.cfg.Admin.EnablePprof,
		Pages: []admin.Page{{
			Path: "/buffers", About: "what is heard on Redis, and what of it is held and not in the log yet",
			Show: func(url.Values) (any, error) { return a.buffers(), nil },
		}},
	}, err
}

// buffers is what a bridge hears and holds.
type buffers struct {
	// Held is all that is not in the log yet; of it Inbox has not been looked at.
	Held       int `json:"held"`
	Inbox      int `json:"inbox"`
	InboxBytes int `json:"inboxBytes"`
	// Limit and LimitBytes are at which the oldest are dropped.
	Limit      int  `json:"limit"`
	LimitBytes int  `json:"limitBytes"`
	Subscribed bool `json:"subscribed"`
	// Problem is why not.
	Problem     string    `json:"problem,omitempty"`
	Channels    []string  `json:"channels"`
	Patterns    []string  `json:"patterns"`
	LastMessage time.Time `json:"lastMessage,omitzero"`
}

func (a *App) buffers() buffers {
	inbox, bytes := a.inbox.size()
	channels, patterns := a.cfg.Redis.subscriptions()
	state := a.link.state()
	return buffers{
		Held: a.pump.depth(), Inbox: inbox, InboxBytes: bytes, Limit: a.inbox.maxEvents, LimitBytes: a.inbox.maxBytes,
		Subscribed: state.connected, Problem: state.problem, Channels: channels, Patterns: patterns, LastMessage: state.lastMessage,
	}
}
