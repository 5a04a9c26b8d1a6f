package operation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Client asks nodes. Its methods may be called at the same time.
type Client struct {
	NC *nats.Conn // with InboxPrefix
	// Timeout is how long answers are waited for.
	Timeout time.Duration
}

// answersRoom is more than there are nodes.
const answersRoom = 4096

// quiet is for how long nobody must have answered once all known ones have, before
// it is taken for all: bridges know of nobody, and nobody knows of them.
const quiet = 500 * time.Millisecond

// ErrNobody says that no node has answered.
var ErrNobody = errors.New("no node has answered: is any running, and may this user of NATS ask (docs/gatewayctl.md)?")

// Ask asks all nodes of some tiers, and gathers what they answer.
func (c *Client) Ask(ctx context.Context, verb Verb, request any, tiers ...Tier) (Answers, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	data, err := json.Marshal(request)
	if err != nil {
		return Answers{}, fmt.Errorf("encode the request: %w", err)
	}
	inbox := answers + rand.Text() + "."
	// A channel also brings the server's word that nobody is subscribed, and where.
	come := make(chan *nats.Msg, answersRoom)
	sub, err := c.NC.ChanSubscribe(inbox+"*", come)
	if err != nil {
		return Answers{}, fmt.Errorf("subscribe to answers: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	g := gathering{tiers: tiers, heard: map[Tier]bool{}, known: map[Member]bool{}, answers: Answers{Asked: time.Now()}}
	for _, tier := range tiers {
		if err := c.NC.PublishRequest(Subject(tier, verb), inbox+string(tier), data); err != nil {
			return Answers{}, fmt.Errorf("ask: %w", err)
		}
	}
	for {
		m := g.next(ctx, come)
		switch {
		case m == nil && errors.Is(ctx.Err(), context.Canceled):
			return Answers{}, fmt.Errorf("wait for answers: %w", ctx.Err())
		case m == nil && len(g.answers.Given) == 0:
			return Answers{}, ErrNobody
		case m == nil:
			return g.answers, nil
		}
		if err := g.take(m, Tier(m.Subject[len(inbox):])); err != nil {
			return Answers{}, err
		}
	}
}

// AskOne asks whichever node of a tier, for verbs that one alone answers.
func (c *Client) AskOne(ctx context.Context, verb Verb, request any, tier Tier) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	data, err := json.Marshal(request)
	if err != nil {
		return Answer{}, fmt.Errorf("encode the request: %w", err)
	}
	inbox := answers + rand.Text()
	sub, err := c.NC.SubscribeSync(inbox)
	if err != nil {
		return Answer{}, fmt.Errorf("subscribe to the answer: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.NC.PublishRequest(Subject(tier, verb), inbox, data); err != nil {
		return Answer{}, fmt.Errorf("ask: %w", err)
	}
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return Answer{}, fmt.Errorf("no %s has answered: %w", tier, err)
	}
	var a Answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return Answer{}, fmt.Errorf("read an answer of tier %s: %w", tier, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s %s: %s", a.Tier, a.Node, a.Error)
	}
	return a, nil
}

// gathering is one under way.
type gathering struct {
	tiers   []Tier
	heard   map[Tier]bool   // somebody of it has answered, or it has nobody
	known   map[Member]bool // and whether they have answered
	answers Answers
}

func (g *gathering) complete() bool {
	return len(g.heard) == len(g.tiers) && len(g.answers.Silent) == 0
}

// next waits for a message: for a little while only, where all known ones have
// answered. It returns nil if none comes.
func (g *gathering) next(ctx context.Context, come <-chan *nats.Msg) *nats.Msg {
	if g.complete() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, quiet)
		defer cancel()
	}
	select {
	case m := <-come:
		return m
	case <-ctx.Done():
		return nil
	}
}

// noResponders is what the server answers where nobody is subscribed.
const noResponders = "503"

func (g *gathering) take(m *nats.Msg, tier Tier) error {
	g.heard[tier] = true
	if len(m.Data) == 0 && m.Header.Get("Status") == noResponders {
		return nil
	}
	var a Answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return fmt.Errorf("read an answer of tier %s: %w", tier, err)
	}
	a.At = time.Now()
	g.answers.add(g.tiers, a, g.known)
	return nil
}

// Each decodes the bodies of answers. What cannot be is an error.
func Each[T any](a Answers, yield func(of Member, body T)) error {
	var problems []error
	for _, answer := range a.Given {
		var body T
		err := errors.New(answer.Error)
		if answer.Error == "" {
			err = json.Unmarshal(answer.Body, &body)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s %s: %w", answer.Tier, answer.Node, err))
			continue
		}
		yield(answer.Member, body)
	}
	return errors.Join(problems...)
}
