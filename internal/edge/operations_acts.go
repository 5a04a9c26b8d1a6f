package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/neolith/daemon-gateway/internal/operation"
	"github.com/neolith/daemon-gateway/internal/ring"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// decode reads a request that an operator acts with.
func decode[T interface{ Check() error }](data []byte) (r T, err error) {
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read the request: %w", err)
	}
	return r, r.Check()
}

// disconnect ends connections, whose daemons come back unless somebody keeps them
// from it.
func (e *Edge) disconnect(_ context.Context, data []byte) (any, error) {
	r, err := decode[operation.DisconnectRequest](data)
	if err != nil {
		return nil, err
	}
	if r.Empty() && !r.All {
		return nil, errors.New("nobody is named")
	}
	fits, err := r.Filter(e.cfg.Node())
	if err != nil {
		return nil, err
	}
	meant := slices.DeleteFunc(e.door.connections(), func(c *connection) bool { return !fits(c.describe()) })
	if len(meant) > 0 {
		e.acted("disconnected", r.Act, "orchestrator", r.Orchestrator, "daemon", r.Daemon, "session", r.Session, "address", r.Address,
			"connections", len(meant))
	}
	for _, c := range meant {
		e.metrics.terminations.Of(terminatedOperator).Inc()
		c.end(protocol.CloseSessionTerminated, "disconnected by an operator")
	}
	return operation.DisconnectReport{Ended: len(meant)}, nil
}

// drainAsked has this edge take no connections, and sends those away that it has.
func (e *Edge) drainAsked(ctx context.Context, data []byte) (any, error) {
	r, err := decode[operation.DrainRequest](data)
	if err != nil || r.Edge != e.cfg.Node() {
		return operation.DrainReport{}, err
	}
	if !r.Alone && !othersServe(e.directory) {
		return nil, errors.New("no other edge takes connections, so its daemons would have nowhere to go")
	}
	e.acted("drained", r.Act, "connections", e.door.count())
	e.door.drained.Store(true)
	e.announce(ctx)
	e.door.sendAway(e.cfg.Listen.DrainPeriod)
	return operation.DrainReport{Heeded: true, Connections: e.door.count()}, nil
}

// undrainAsked takes that back.
func (e *Edge) undrainAsked(ctx context.Context, data []byte) (any, error) {
	r, err := decode[operation.DrainRequest](data)
	if err != nil || r.Edge != e.cfg.Node() {
		return operation.DrainReport{}, err
	}
	e.acted("undrained", r.Act, "connections", e.door.count())
	e.door.drained.Store(false)
	e.announce(ctx)
	return operation.DrainReport{Heeded: true, Connections: e.door.count()}, nil
}

// balanceAsked sends away now what this edge holds over the mean, or says what that
// would be.
func (e *Edge) balanceAsked(ctx context.Context, data []byte) (any, error) {
	r, err := decode[operation.BalanceRequest](data)
	if err != nil {
		return nil, err
	}
	plan, err := e.shedder.plan(ctx, !r.DryRun)
	if err != nil {
		return nil, err
	}
	if !r.DryRun {
		e.acted("balancing", r.Act, "connections", plan.Own, "sends", plan.Excess)
	}
	return operation.BalanceReport{
		Connections: plan.Own, Mean: plan.Mean, Sends: plan.Excess, Rate: plan.Rate, Keeps: plan.Keeps,
	}, nil
}

// announce tells the directory whether this edge takes connections.
func (e *Edge) announce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := e.directory.SetDraining(ctx, e.door.unavailable()); err != nil {
		e.logger.Debug("no member heard yet whether this edge takes connections", "error", err)
	}
}

// note writes down what an operator does without any node.
func (e *Edge) note(_ context.Context, data []byte) (any, error) {
	r, err := decode[operation.NoteRequest](data)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(operation.Noted, r.Done) {
		return nil, fmt.Errorf("%q is nothing that this version notes", r.Done)
	}
	e.acted(r.Done, r.Act, "of", r.Of)
	return struct{}{}, nil
}

// acted writes into the audit log, before what is asked for is done.
func (e *Edge) acted(what string, by operation.Act, attributes ...any) {
	e.audit.Acted(what, append(attributes, by.Attributes()...)...)
}

// othersServe reports whether another edge takes connections.
func othersServe(members interface {
	Members(tier ring.Tier) []ring.Member
	Self() ring.Member
}) bool {
	self := members.Self().Name
	return slices.ContainsFunc(members.Members(ring.TierEdge), func(m ring.Member) bool { return m.Name != self && !m.Draining })
}
