// Package hostile measures what hostile clients cost an edge, or the intake of a
// bridge, and the other daemons: well-behaved daemons are sent events at a steady
// rate, one attack after the other is made on their edge or bridge, and memory and
// CPU of that and the latency of the others are shown without and with each attack.
//
// The attackers share the machine with all of that, so a flood
// slows the others by the CPU alone that it takes to make it.
package hostile

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
	"github.com/neolith/daemon-gateway/internal/lab/attack"
	"github.com/neolith/daemon-gateway/internal/lab/cluster"
	"github.com/neolith/daemon-gateway/internal/lab/ledger"
	"github.com/neolith/daemon-gateway/internal/lab/process"
	"github.com/neolith/daemon-gateway/internal/lab/traffic"
	"github.com/neolith/daemon-gateway/pkg/event"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// Scenario is what this package does.
func Scenario() lab.Scenario {
	return lab.Scenario{
		Name: "hostile", What: "what hostile clients cost an edge and its other daemons",
		Takes: "10 min", Page: "docs/security.md", New: scenario,
	}
}

type options struct {
	daemons, rate int
	calm, attack  time.Duration
}

// hostile is a run.
type hostile struct {
	*lab.World
	options options
	intake  string // its address
}

// promise is what the well-behaved daemons are owed.
var promise = ledger.Promise{PublishOrder: true}

func scenario(flags *flag.FlagSet) lab.Run {
	var o options
	flags.IntVar(&o.daemons, "daemons", 100, "well-behaved daemons, each of its own orchestrator, on the edge that is attacked")
	flags.IntVar(&o.rate, "rate", 100, "events a second for the well-behaved daemons")
	flags.DurationVar(&o.calm, "calm", 8*time.Second, "how long latency is measured before each attack")
	flags.DurationVar(&o.attack, "attack", 20*time.Second, "how long each attack takes")
	attacks := lab.Select(flags, "attacks", "attacks", attack.All(), func(a attack.Attack) (name, what string) { return a.Name, a.What })
	return func(ctx context.Context, w *lab.World) error {
		h := &hostile{World: w, options: o}
		if err := h.open(ctx); err != nil {
			return err
		}
		table := lab.NewTable("attack", "clients", "the others: p50 / p99 / max", "with the attack", "cores of the edge or bridge, before and with it",
			"MiB in use: before / most / after", "MiB resident, most", "what came of it")
		for _, a := range attacks.Chosen() {
			m, err := h.measure(ctx, a)
			if err != nil {
				return fmt.Errorf("%s: %w", a.Name, err)
			}
			h.Say("%s: others %s, with the attack %s; %s", a.Name, percentiles(m.calm), percentiles(m.attacked), outcome(m.tally))
			table.Row(a.What, a.Clients, percentiles(m.calm), percentiles(m.attacked), fmt.Sprintf("%.2f, %.2f", m.calmCores, m.cores),
				mebibytes(m.before.InUse)+" / "+mebibytes(m.peak.InUse)+" / "+mebibytes(m.after.InUse), mebibytes(m.peak.Resident), outcome(m.tally))
		}
		if err := errors.Join(h.Feed.Finish(ctx), h.Settle(ctx, promise)); err != nil {
			return err
		}
		h.Say("the others: %s", h.Judge(promise))
		fmt.Printf("\n%s, shared by the whole cluster, %d well-behaved daemons, their %d events a second, and the attackers; %s of each attack\n",
			lab.Machine(), o.daemons, o.rate, o.attack)
		return table.Print(os.Stdout)
	}
}

// open starts a cluster with one edge, its well-behaved daemons, and their events.
func (h *hostile) open(ctx context.Context) error {
	settings, err := h.withIntake()
	if err != nil {
		return err
	}
	maps.Copy(settings, map[string]string{
		"LOG_LEVEL": "warn",
		// For garbage collections at will: heaps are compared after one.
		"ENABLE_PPROF": "true",
		// The lab lifts this limit; attackers are to meet it as it is.
		"RATE_CONNECTS_PER_IP": "20",
		// No event is to go because there are newer ones.
		"EVENTS_PER_ORCHESTRATOR": "1000000",
	})
	if err := h.Open(ctx, cluster.Config{Bridges: 1, Routers: 1, Edges: 1, Settings: settings}); err != nil {
		return err
	}
	for i := range h.options.daemons {
		h.Crowd.Add(orchestrator(i), traffic.Habit{Name: traffic.Steady})
	}
	if err := h.Enter(ctx, h.Crowd.Seats()...); err != nil {
		return err
	}
	n := 0
	h.Feed.Timeout = lab.Patience // an attack may slow Redis as well
	h.Feed.Start(traffic.Author{Way: traffic.OnRedis, Every: time.Second / time.Duration(h.options.rate), Next: func(time.Time) event.Event {
		n++
		return traffic.Message(orchestrator(n%h.options.daemons), fmt.Sprintf("event-%d", n), []byte(`{}`))
	}})
	return nil
}

// apiKey is the attackers' at the intake.
const apiKey = "of somebody who may publish"

// withIntake returns the settings of a bridge that takes events by TLS.
func (h *hostile) withIntake() (map[string]string, error) {
	var err error
	if h.intake, err = process.Reserve(process.Loopback); err != nil {
		return nil, err
	}
	keys, certificate := filepath.Join(h.Dir, "api-keys"), filepath.Join(h.Dir, "intake.pem")
	hash := sha256.Sum256([]byte(apiKey))
	if err := os.WriteFile(keys, []byte("attackers "+hex.EncodeToString(hash[:])), 0o600); err != nil {
		return nil, err
	}
	return map[string]string{
		"HTTP_ADDR": h.intake, "API_KEYS_FILE": keys, "INTAKE_TLS_CERT_FILE": certificate, "INTAKE_TLS_KEY_FILE": certificate,
	}, writeCertificate(certificate)
}

// writeCertificate writes a certificate that nobody trusts, and its key.
func writeCertificate(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(path, text, 0o600)
}

func orchestrator(i int) protocol.OrchestratorID {
	return protocol.OrchestratorID(fmt.Sprintf("well-behaved-%d", i))
}

func percentiles(all []time.Duration) string { return lab.Percentiles(all, 100*time.Microsecond) }

func mebibytes(bytes float64) string { return fmt.Sprintf("%.0f", bytes/(1<<20)) }

// outcome says what came of the attackers' connections.
func outcome(t attack.Tally) string {
	parts := []string{fmt.Sprintf("%d connections", t.Opened)}
	if t.Sent > 1<<20 {
		parts = append(parts, mebibytes(float64(t.Sent))+" MiB sent")
	}
	parts = append(parts, counts("closed with", t.Closed)...)
	parts = append(parts, counts("refused with", t.Refused)...)
	return strings.Join(parts, ", ")
}

func counts(what string, by map[int]int) (parts []string) {
	for _, code := range slices.SortedFunc(maps.Keys(by), cmp.Compare[int]) {
		parts = append(parts, fmt.Sprintf("%d %s %d", by[code], what, code))
	}
	return parts
}
