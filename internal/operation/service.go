package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/neolith/daemon-gateway/internal/admin"
	"github.com/neolith/daemon-gateway/internal/buildinfo"
	"github.com/neolith/daemon-gateway/internal/lifecycle"
	"github.com/neolith/daemon-gateway/internal/natsconn"
)

// Handler answers a request. It must not take long: requests of a verb are answered
// one after the other. What it returns is encoded as JSON.
type Handler func(ctx context.Context, request []byte) (answer any, err error)

// Service answers operators for a node. Handle is called before Run.
type Service struct {
	self     Member
	conn     *natsconn.Conn
	known    func() []Member
	logger   *slog.Logger
	handlers map[Verb]Handler
	once     map[Verb]bool // verbs that one node of the tier is to answer
	ready    *readiness
}

// Node is what a service has to know of the node that it answers for.
type Node struct {
	Member
	// Known returns the members that the node knows by gossip; nil where it has none.
	Known func() []Member
	// Shown is what the admin port shows, too.
	Shown admin.Node
	// Holds counts what the node holds.
	Holds func() map[string]int
	// Clock is the node's; nil: the machine's.
	Clock func() time.Time
}

// NewService returns a service that answers what every node is asked.
func NewService(conn *natsconn.Conn, n Node, logger *slog.Logger) *Service {
	clock := n.Clock
	if clock == nil {
		clock = time.Now
	}
	s := &Service{
		self: n.Member, conn: conn, known: n.Known, logger: logger.With("component", "operation"),
		handlers: map[Verb]Handler{}, once: map[Verb]bool{}, ready: newReadiness(n.Shown.Checks, clock()),
	}
	s.Handle(Nodes, func(context.Context, []byte) (any, error) {
		now := clock()
		report := s.ready.report(now)
		report.Version, report.Clock, report.Holds = buildinfo.Get().Version, now, n.Holds()
		return report, nil
	})
	s.handleInsight(n.Shown)
	return s
}

// Handle has a verb answered.
func (s *Service) Handle(verb Verb, handler Handler) { s.handlers[verb] = handler }

// HandleOnce has each request of a verb answered by one node of the tier.
func (s *Service) HandleOnce(verb Verb, handler Handler) {
	s.Handle(verb, handler)
	s.once[verb] = true
}

// Run answers until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	// A user of a release before may not be asked. The node works without that.
	s.conn.Tolerate("operators cannot ask this node: its NATS user is not permitted to hear them", "$SRV.", subjects)
	offered, err := micro.AddService(s.conn.NC, micro.Config{
		Name: service + string(s.self.Tier), Description: "A node of the Daemon Gateway, for its operators.",
		Version:            "1.0.0", // of these requests and answers
		QueueGroupDisabled: true,    // everybody is to answer
		Metadata:           map[string]string{"node": s.self.Node, "version": buildinfo.Get().Version},
	})
	if err != nil {
		return fmt.Errorf("offer to answer operators: %w", err)
	}
	defer func() { _ = offered.Stop() }() // the connection may be closed
	for verb, handler := range s.handlers {
		options := []micro.EndpointOpt{micro.WithEndpointSubject(Subject(s.self.Tier, verb))}
		if s.once[verb] {
			options = append(options, micro.WithEndpointQueueGroup(string(verb)))
		}
		err := offered.AddEndpoint(string(verb), micro.HandlerFunc(func(r micro.Request) {
			s.respond(r, func() (any, error) { return handler(ctx, r.Data()) })
		}), options...)
		if err != nil {
			return fmt.Errorf("offer to answer %s: %w", verb, err)
		}
	}
	lifecycle.Every(ctx, time.Second, s.ready.look)
	return nil
}

// answerRoom is what of the largest message is kept for its headers.
const answerRoom = 4 << 10

func (s *Service) respond(r micro.Request, ask func() (any, error)) {
	answer := Answer{Member: s.self}
	if s.known != nil {
		answer.Known = s.known()
	}
	body, err := ask()
	if err == nil {
		answer.Body, err = json.Marshal(body)
	}
	if err == nil && len(answer.Body) > int(s.conn.NC.MaxPayload())-answerRoom {
		answer.Body, err = nil, fmt.Errorf("the answer has %d bytes, more than NATS takes: ask for less", len(answer.Body))
	}
	if err != nil {
		answer.Error = err.Error()
	}
	if err := r.RespondJSON(answer); err != nil {
		s.logger.Debug("operator not answered", "subject", r.Subject(), "error", err)
	}
}

// readiness is what /readyz says, and since when.
type readiness struct {
	checks  []admin.Check
	started time.Time

	mu    sync.Mutex
	ready bool
	since time.Time
}

func newReadiness(checks []admin.Check, now time.Time) *readiness {
	return &readiness{checks: checks, started: now, since: now}
}

// look notes when readiness changes.
func (r *readiness) look(now time.Time) { r.report(now) }

func (r *readiness) report(now time.Time) NodeReport {
	report := NodeReport{Started: r.started, Ready: true}
	for _, check := range r.checks {
		ok, detail := check.Ready()
		report.Ready = report.Ready && (ok || check.Advisory)
		report.Checks = append(report.Checks, Check{check.Name, ok, check.Advisory, detail})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if report.Ready != r.ready {
		r.ready, r.since = report.Ready, now
	}
	report.Since = r.since
	return report
}
