package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// concurrentAnswers bounds the answers to other edges, of each kind.
const concurrentAnswers = 256

// peers asks edges a kind of question, or tells them something, and answers those
// of others: a NATS request, or a message, with JSON in both directions.
type peers[Question, Answer any] struct {
	self    string // the member name of this edge
	nc      *nats.Conn
	subject func(edge event.Token) string
	answer  func(context.Context, Question) Answer
	logger  *slog.Logger
}

// ask returns what an edge answers, this one included. One that is gone, and
// its connections with it, answers nothing.
func (p *peers[Question, Answer]) ask(ctx context.Context, edge string, q Question) (a Answer, err error) {
	if edge == p.self {
		return p.answer(ctx, q), nil
	}
	data, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	msg, err := p.request(ctx, p.subject(event.TokenOf(edge)), data)
	if errors.Is(err, nats.ErrNoResponders) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(msg.Data, &a)
	}
	return a, err
}

// request is nats.Conn.RequestWithContext, answered where other edges may publish.
func (p *peers[Question, Answer]) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	inbox := delivery.AnswerInbox(p.nc.NewInbox())
	sub, err := p.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone already
	if err := p.nc.PublishRequest(subject, inbox, data); err != nil {
		return nil, err
	}
	return sub.NextMsgWithContext(ctx)
}

// tell says to another edge what it need not answer. So one that stands still
// keeps nobody else from being told, and nothing waits for it here.
func (p *peers[Question, Answer]) tell(edge string, q Question) error {
	data, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return p.nc.Publish(p.subject(event.TokenOf(edge)), data)
}

// serve answers other edges until stop is called, which hastens what is under
// way by the end of its context.
func (p *peers[Question, Answer]) serve(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	answers := newPool(ctx, nil, concurrentAnswers)
	subject := p.subject(event.TokenOf(p.self))
	sub, err := p.nc.Subscribe(subject, func(m *nats.Msg) {
		answers.submit(m, func(ctx context.Context) { p.respond(ctx, m) })
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() {
		_ = sub.Unsubscribe() // the connection may be gone already
		cancel()
		answers.close()
	}, nil
}

func (p *peers[Question, Answer]) respond(ctx context.Context, m *nats.Msg) {
	var q Question
	err := json.Unmarshal(m.Data, &q)
	if err == nil {
		var data []byte
		if data, err = json.Marshal(p.answer(ctx, q)); err == nil && m.Reply != "" {
			err = m.Respond(data)
		}
	}
	if err != nil {
		p.logger.Warn("another edge is not answered, it will ask again", "subject", m.Subject, "error", err)
	}
}
