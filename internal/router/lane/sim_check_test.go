package lane

import (
	"errors"
	"fmt"
	"time"
)

// check takes the effects of all lanes and checks them and the invariants.
func (w *world) check() error {
	for _, n := range w.runs {
		for _, effect := range n.lane.Take(nil) {
			switch e := effect.(type) {
			case Send:
				n.sends = append(n.sends, e)
				if err := w.checkSend(e); err != nil {
					return err
				}
			case DeadLetter:
				n.stores = append(n.stores, e.Message.Sequence)
			}
		}
		if err := w.checkRun(n); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) checkSend(s Send) error {
	previous := uint64(0)
	for _, e := range s.Batch.Events {
		if e.Sequence <= previous || e.After >= e.Sequence {
			return fmt.Errorf("batch out of order at %d (after %d)", e.Sequence, e.After)
		}
		previous = e.Sequence
		for q := e.After + 1; q < e.Sequence; q++ {
			if w.log[q-1].token == e.Token {
				return fmt.Errorf("claim of %s: nothing between %d and %d, but %d", e.Token, e.After, e.Sequence, q)
			}
		}
	}
	for _, h := range s.Batch.Hints {
		if w.log[h.Sequence-1].token != h.Token {
			return fmt.Errorf("hint of %s names %d, which is another's", h.Token, h.Sequence)
		}
	}
	return nil
}

func (w *world) checkRun(n *run) error {
	checkpoint := n.lane.Checkpoint()
	if w.wrong.followsSends {
		checkpoint = n.lane.position
		for _, o := range n.lane.outboxes {
			if len(o.open) > 0 {
				checkpoint = min(checkpoint, o.open[0].Sequence-1)
			}
		}
	}
	if w.wrong.refusedIsPassed && len(n.lane.refused) > 0 {
		n.lane.refused = nil
	}
	for d := range n.owed {
		if d.sequence <= checkpoint {
			return fmt.Errorf("checkpoint %d passes %d, which %q has not received", checkpoint, d.sequence, d.edge)
		}
	}
	if n.lane.memory.len() > simMemory || len(n.lane.memory.entries) > simMemory+1 {
		return fmt.Errorf("memory holds %d", n.lane.memory.len())
	}
	for _, o := range n.lane.outboxes {
		if len(o.inflight) > simInflight || len(o.open) > maxBatchEvents || o.hints.len() > len(w.tokens) || len(o.hints.byToken) != o.hints.len() {
			return fmt.Errorf("outbox of %s holds %d batches, %d events, %d hints", o.edge, len(o.inflight), len(o.open), o.hints.len())
		}
	}
	return nil
}

// settle heals everything: then every lane comes to rest at the log's end,
// and nobody is owed anything.
func (w *world) settle() error {
	if len(w.runs) == 0 {
		w.startRun()
	}
	for range 2000 {
		w.now = w.now.Add(time.Second)
		rest := true
		for _, n := range w.runs {
			n.hear(w.r)
			w.feed(n)
			clear(n.silent)
			for _, s := range n.sends {
				n.receive(w, s)
				n.lane.Receipt(s.ID, Received)
			}
			n.sends = nil
			w.storeDeadLetter(n)
			n.lane.Tick(w.now)
			atEnd := n.fed == uint64(len(w.log)) || w.wrong.sharedConsumer
			rest = rest && atEnd && n.lane.Idle() && len(n.news) == 0
		}
		if err := w.check(); err != nil {
			return err
		}
		if rest {
			return w.checkRest()
		}
	}
	return errors.New("no rest after settling")
}

func (w *world) checkRest() error {
	for _, n := range w.runs {
		if len(n.owed) > 0 || len(n.hints) > 0 {
			return fmt.Errorf("at rest, but owed: %v, hints %v", n.owed, n.hints)
		}
		if n.lane.Checkpoint() != n.lane.Position() {
			return fmt.Errorf("at rest at %d, but the checkpoint is %d", n.lane.Position(), n.lane.Checkpoint())
		}
	}
	return nil
}
