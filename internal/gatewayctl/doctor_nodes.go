package gatewayctl

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// examined is a node with all that it says of itself.
type examined struct {
	node
	asked, at time.Time // between which it has answered
	known     []operation.Member
	settings  map[string]string
	metrics   samples
}

func (e examined) String() string { return string(e.Tier) + " " + e.Node }

// askNodes asks all nodes how they are, and for their settings and metrics.
func (x *examination) askNodes(ctx context.Context) error {
	answers, err := x.client.Ask(ctx, operation.Nodes, struct{}{}, operation.Tiers...)
	if err != nil {
		return err
	}
	x.silent = answers.Silent
	at := map[operation.Member]operation.Answer{}
	for _, a := range answers.Given {
		at[a.Member] = a
	}
	err = operation.Each(answers, func(of operation.Member, report operation.NodeReport) {
		x.nodes = append(x.nodes, examined{node: node{of, report}, asked: answers.Asked, at: at[of].At, known: at[of].Known})
	})
	if err != nil {
		return err
	}
	inForce, err := gatherFrom(ctx, x.client, operation.Settings, struct{}{}, func(r operation.SettingsReport) map[string]string {
		return parseSettings(r.Settings)
	})
	if err != nil {
		return err
	}
	metrics, err := gatherFrom(ctx, x.client, operation.Metrics, struct{}{}, func(r operation.MetricsReport) samples {
		text, err := decompress(r.Metrics)
		if err != nil {
			return nil
		}
		return parseSamples(string(text))
	})
	if err != nil {
		return err
	}
	for i, n := range x.nodes {
		x.nodes[i].settings, x.nodes[i].metrics = inForce[n.Member], metrics[n.Member]
	}
	return nil
}

// gatherFrom asks all nodes for something, and makes something of it.
func gatherFrom[R, T any](ctx context.Context, client *operation.Client, verb operation.Verb, request any, of func(R) T) (map[operation.Member]T, error) {
	answers, err := client.Ask(ctx, verb, request, operation.Tiers...)
	if err != nil {
		return nil, err
	}
	all := map[operation.Member]T{}
	// Who cannot answer this is of a release before: it is left out.
	_ = operation.Each(answers, func(m operation.Member, report R) { all[m] = of(report) })
	return all, nil
}

// parseSettings reads NAME=value lines.
func parseSettings(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			all[name] = value
		}
	}
	return all
}

const runbook = "see docs/runbook.md"

func (x *examination) ofNodes(context.Context) {
	for _, tier := range operation.Tiers {
		if !slices.ContainsFunc(x.nodes, func(n examined) bool { return n.Tier == tier }) {
			x.found(string(tier), "no node of this tier answers",
				"Start one, or see why it cannot be asked: its log says whether its NATS user may be (docs/gatewayctl.md).")
		}
	}
	versions := map[string]bool{}
	for _, n := range x.nodes {
		versions[n.Version] = true
		for _, c := range n.Checks {
			switch {
			case !c.Ready && c.Advisory:
				x.advise(n.String(), c.Name+": "+c.Detail, "It works without; "+runbook+" for what is missing meanwhile.")
			case !c.Ready:
				x.found(n.String(), "not ready: "+c.Name+": "+c.Detail, "See to what it waits for; "+runbook+".")
			}
		}
		if n.settings == nil {
			x.unseen("%s does not tell its settings: it is of a release before", n)
		}
	}
	if len(versions) > 1 {
		x.advise("nodes", fmt.Sprintf("%d versions run at the same time", len(versions)), "During an upgrade that is normal; else finish it (docs/upgrading.md).")
	}
}

// ofGossip compares who is known with who answers, and with who should be known.
func (x *examination) ofGossip(ctx context.Context) {
	defer x.ofPods(ctx, net.DefaultResolver.LookupNetIP)
	for _, m := range x.silent {
		x.found(string(m.Tier)+" "+m.Node, "others know it by gossip, and it does not answer",
			"Look at its process and its connection to NATS: it stands still, is cut off from NATS, has just died, or its NATS user may not be asked.")
	}
	for _, n := range x.nodes {
		if n.Tier == operation.Bridge {
			continue // they have no gossip
		}
		for _, other := range x.nodes {
			if other.Tier != operation.Bridge && other.Member != n.Member && !slices.Contains(n.known, other.Member) {
				x.found(n.String(), "does not know "+other.String()+" by gossip, which answers",
					"Gossip is split: compare GOSSIP_JOIN, GOSSIP_KEYS and CLUSTER_NAME of the two, and let them reach each other over TCP and UDP on the gossip port; "+
						runbook+" (GatewayDirectorySplit).")
			}
		}
	}
}

// clockTolerance is by how much clocks may differ: far less than does harm (30 s),
// and more than a clock that is kept is ever wrong.
const clockTolerance = 2 * time.Second

// ofClocks compares clocks, each as exactly as the time between question and answer
// allows.
func (x *examination) ofClocks(context.Context) {
	type bounds struct {
		of          string
		least, most time.Duration // by how much it is ahead of this machine's
	}
	var all []bounds
	for _, n := range x.nodes {
		if !n.Clock.IsZero() {
			all = append(all, bounds{n.String(), n.Clock.Sub(n.at), n.Clock.Sub(n.asked)})
		}
	}
	if len(all) == 0 {
		return
	}
	ahead := slices.MaxFunc(all, func(a, b bounds) int { return int(a.least - b.least) })
	behind := slices.MinFunc(all, func(a, b bounds) int { return int(a.most - b.most) })
	const do = "Keep the clocks of the machines with NTP (timedatectl, chronyc tracking). Beyond 30 s valid tokens are refused, or expired ones pass."
	if apart := ahead.least - behind.most; apart > clockTolerance {
		x.found(ahead.of, fmt.Sprintf("its clock is at least %s ahead of that of %s", apart.Round(100*time.Millisecond), behind.of), do)
		return
	}
	if behind.most < -clockTolerance || ahead.least > clockTolerance {
		x.advise("this machine", "its clock is not that of the nodes, which agree", do)
	}
}

// agreed are the settings that all nodes should have alike.
var agreed = []string{
	"PARTITIONS", "STREAM_REPLICAS", "EVENT_RETENTION", "EVENTS_PER_ORCHESTRATOR", "MAX_EVENT_BYTES", "LOG_MAX_BYTES", "CURSOR_PERCENT",
	"DUPLICATE_WINDOW", "DEADLETTER_RETENTION",
}

// ofSettings compares settings of nodes, and learns how the log is to be laid out:
// as routers have it, who change it.
func (x *examination) ofSettings(context.Context) {
	var model examined
	for _, n := range x.nodes {
		if n.settings != nil && (model.settings == nil || n.Tier == operation.Router && model.Tier != operation.Router) {
			model = n
		}
	}
	if model.settings == nil {
		x.unseen("no node tells its settings")
		return
	}
	for _, n := range x.nodes {
		for _, name := range agreed {
			if have, want := n.settings[name], model.settings[name]; n.settings != nil && have != want {
				x.found(n.String(), fmt.Sprintf("%s is %s, and that of %s is %s", name, have, model, want),
					"Give all nodes the same, and restart those that have another one.")
			}
		}
	}
	err := settings.Parse("gatewayctl", "", &x.log, nil, func(name string) (string, bool) {
		value, ok := model.settings[name]
		return value, ok
	})
	if err != nil {
		x.unseen("the settings of %s cannot be read: %v", model, err)
		return
	}
	x.logKnown = true
}

// refusedWords are how /readyz tells of a permission that is missing.
var refusedWords = []string{"lacks a permission", "may not subscribe", "forbids"}

func (x *examination) ofPermissions(ctx context.Context) {
	for _, n := range x.nodes {
		for _, c := range n.Checks {
			if slices.ContainsFunc(refusedWords, func(words string) bool { return strings.Contains(c.Detail, words) }) {
				x.found(n.String(), c.Name+": "+c.Detail, "Give its user what it lacks: docs/operations.md says who may do what on NATS and Redis.")
			}
		}
	}
	if _, err := x.js.AccountInfo(ctx); err != nil {
		x.found("this user", "JetStream tells nothing of its account: "+err.Error(),
			"Call this as the user operator, and give it the permissions of docs/operations.md.")
	}
}

// silentAfter is when a channel is worth a word: Neolith publishes more often.
const silentAfter = 15 * time.Minute

func (x *examination) ofChannels(context.Context) {
	for _, n := range x.nodes {
		if n.Tier != operation.Bridge || n.metrics == nil {
			continue
		}
		if forbidden, _ := n.metrics.sum("gateway_bridge_forbidden_subscriptions"); forbidden > 0 {
			x.found(n.String(), fmt.Sprintf("Redis forbids %.0f of its channels and patterns", forbidden),
				"Allow its Redis user the channels of REDIS_CHANNELS and REDIS_PATTERNS (docs/operations.md), or take them out of the settings.")
		}
		last, _ := n.metrics.sum("gateway_bridge_last_message_timestamp_seconds")
		heard, up := time.Unix(int64(last), 0), x.now.Sub(n.Started)
		switch {
		case last == 0 && up > silentAfter:
			x.advise(n.String(), fmt.Sprintf("it has heard nothing on Redis since it started %s ago", age(x.now, n.Started)),
				"Does Neolith publish on this Redis, and on the channels of REDIS_CHANNELS and REDIS_PATTERNS? redis-cli PUBSUB CHANNELS '*' shows who listens where.")
		case last != 0 && x.now.Sub(heard) > silentAfter:
			x.advise(n.String(), fmt.Sprintf("it has heard nothing on Redis for %s", age(x.now, heard)),
				"Does Neolith still publish, and on this Redis? Where it is quiet at this time of day, nothing is wrong.")
		}
	}
}

const (
	// certificateSoon is when a certificate that is not renewed by itself has to be
	// seen to, and certificateNow when one that is should have been.
	certificateSoon = 30 * 24 * time.Hour
	certificateNow  = 7 * 24 * time.Hour
)

func (x *examination) ofCertificates(context.Context) {
	const do = "Renew it; nodes read the files again by themselves (docs/security.md)."
	look := func(of string, end time.Time) {
		left := end.Sub(x.now)
		told := fmt.Sprintf("its certificate ends %s, in %s", end.UTC().Format(time.RFC3339), age(end, x.now))
		switch {
		case left <= 0:
			x.found(of, "its certificate has ended "+end.UTC().Format(time.RFC3339), do)
		case left < certificateNow:
			x.found(of, told, do)
		case left < certificateSoon:
			x.advise(of, told, do)
		}
	}
	for _, n := range x.nodes {
		if end, ok := n.metrics.sum("gateway_tls_certificate_not_after_timestamp_seconds"); ok {
			look(n.String(), time.Unix(int64(end), 0))
		}
	}
	if state, err := x.client.NC.TLSConnectionState(); err == nil && len(state.PeerCertificates) > 0 {
		look("NATS server "+x.client.NC.ConnectedServerName(), state.PeerCertificates[0].NotAfter)
	}
}

func (x *examination) ofPublishers(context.Context) {
	for _, n := range x.nodes {
		if moved, _ := n.metrics.sum("ws_events_total", `type="moved"`); n.Tier == operation.Router && moved > 0 {
			x.found(n.String(), fmt.Sprintf("%.0f events stood in another partition than their orchestrator's, since it started", moved),
				"A publisher, or the subject mapping of NATS, assumes another number of partitions than the log has: gatewayctl status has the number. "+
					"The log of the router names an event of it; docs/operations.md has the mapping.")
		}
	}
}
