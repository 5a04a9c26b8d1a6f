package gatewayctl

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/eventlog"
	"github.com/neolith/daemon-gateway/pkg/event"
)

const (
	// oldestMajor and oldestMinor are of the oldest version of NATS that is tried.
	oldestMajor, oldestMinor = 2, 11
	// headerRoom is what a message may need beside an event's body.
	headerRoom = 4 << 10
	// nearly is the share of a limit from which on it is told.
	nearly = 0.8
)

func (x *examination) ofNATS(ctx context.Context) {
	nc := x.client.NC
	of := "server " + nc.ConnectedServerName()
	if version := nc.ConnectedServerVersion(); older(version, oldestMajor, oldestMinor) {
		x.found(of, "its version is "+version, fmt.Sprintf("Upgrade NATS to %d.%d or later.", oldestMajor, oldestMinor))
	}
	if room := nc.MaxPayload() - headerRoom; x.logKnown && int64(x.log.MaxEventBytes) > room {
		x.found(of, fmt.Sprintf("max_payload is %d, too little for MAX_EVENT_BYTES (%s)", nc.MaxPayload(), x.log.MaxEventBytes),
			fmt.Sprintf("Set max_payload of all NATS servers to at least %d, or MAX_EVENT_BYTES lower.", int64(x.log.MaxEventBytes)+headerRoom))
	}
	account, err := x.js.AccountInfo(ctx)
	if err != nil {
		x.unseen("JetStream tells nothing of the account: %v", err)
		return
	}
	for _, l := range []struct {
		what        string
		used, limit int64
	}{
		{"storage of the account", int64(account.Store), account.Limits.MaxStore},
		{"streams of the account", int64(account.Streams), int64(account.Limits.MaxStreams)},
		{"consumers of the account", int64(account.Consumers), int64(account.Limits.MaxConsumers)},
	} {
		if l.limit > 0 && float64(l.used) > nearly*float64(l.limit) {
			x.found(of, fmt.Sprintf("%s: %d of %d are used", l.what, l.used, l.limit), "Raise the limit of the account, before NATS refuses what the gateway needs.")
		}
	}
}

// older reports whether a version such as 2.10.3 is before another one.
func older(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && (a < major || a == major && b < minor)
}

func (x *examination) ofStreams(ctx context.Context) {
	if !x.logKnown {
		x.unseen("how the log is to be laid out no node tells")
		return
	}
	held, err := eventlog.Inspect(ctx, x.js, x.log)
	if err != nil {
		x.found("streams", err.Error(), "Without them nothing is delivered. Is JetStream up (nats stream report), and may this user look at streams?")
		return
	}
	drifted := 0
	for _, h := range held {
		for _, d := range h.Drifts {
			drifted++
			do := "Somebody has changed it, and no setting says so: nats stream edit, as the user backup, changes it back."
			if d.Mended {
				do = "Somebody has changed it, or nodes were given other settings: routers put it right when they start, or gateway-admin where " +
					"MANAGE_STREAMS=false (docs/operations.md). Where the change is meant, change the setting of all nodes."
			}
			x.found(d.Stream, fmt.Sprintf("%s is %s, as configured it is %s", d.Setting, d.Have, d.Want), do)
		}
		if h.Info != nil {
			x.ofStream(h.Info)
		}
	}
	if drifted == 0 && x.log.StreamReplicas == 1 {
		x.advise("streams", "each is held by one NATS server alone (STREAM_REPLICAS=1)",
			"In production use three servers and STREAM_REPLICAS=3: with one copy the loss of a disk loses the events that wait.")
	}
}

// ofStream looks at the servers that hold a stream, and how full it is.
func (x *examination) ofStream(info *jetstream.StreamInfo) {
	name := info.Config.Name
	if c := info.Cluster; c != nil {
		if c.Leader == "" {
			x.found(name, "it has no leader", "Bring back the NATS servers that hold it: nats stream report says which.")
		}
		for _, peer := range c.Replicas {
			switch {
			case peer.Offline:
				x.found(name, "its replica on "+peer.Name+" is offline", "Bring that NATS server back, or move the replica to another one.")
			case !peer.Current:
				x.found(name, fmt.Sprintf("its replica on %s is not current, by %d operations", peer.Name, peer.Lag), "It catches up by itself; if it does not, see that server's log and disk.")
			}
		}
	}
	if limit := info.Config.MaxBytes; strings.HasPrefix(name, event.StreamName(0)[:len(event.StreamName(0))-1]) && limit > 0 && float64(info.State.Bytes) > nearly*float64(limit) {
		x.found(name, fmt.Sprintf("it is nearly full: %d of %d bytes", info.State.Bytes, limit),
			"A full partition refuses events: raise LOG_MAX_BYTES, or find out whose they are (docs/runbook.md, GatewayLogNearlyFull).")
	}
}

// monitored is what is read of /varz of a NATS server.
type monitored struct {
	JetStream struct {
		Config struct {
			SyncInterval time.Duration `json:"sync_interval"`
			SyncAlways   bool          `json:"sync_always"`
		} `json:"config"`
	} `json:"jetstream"`
}

// longestSync is NATS's own default; longer ones lose more when the power goes.
const longestSync = 2 * time.Minute

// ofSync reads how often NATS syncs to disk, which only its monitoring port tells.
func (x *examination) ofSync(ctx context.Context) {
	if x.monitor == "" {
		x.unseen("how often NATS syncs to disk only its monitoring port tells: give --nats-monitor")
		return
	}
	var server monitored
	if err := getJSON(ctx, x.monitor+"/varz", x.program.timeout, &server); err != nil {
		x.unseen("%v", err)
		return
	}
	switch c := server.JetStream.Config; {
	case c.SyncAlways:
	case c.SyncInterval > longestSync:
		x.found("NATS at "+x.monitor, "it syncs to disk every "+c.SyncInterval.String()+" only",
			"Set sync_interval to always where all replicas may lose power at once, else to at most 2m (docs/operations.md).")
	case x.logKnown && x.log.StreamReplicas == 1:
		x.advise("NATS at "+x.monitor, "it syncs to disk every "+c.SyncInterval.String()+", and there is one replica",
			"What it has acknowledged since the last sync is lost with the power: sync_interval: always closes that, and costs throughput.")
	}
}

func getJSON(ctx context.Context, url string, timeout time.Duration, into any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, response.StatusCode)
	}
	return json.NewDecoder(response.Body).Decode(into)
}
