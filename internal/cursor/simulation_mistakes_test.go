package cursor

import (
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

// key is where a daemon's entry stands.
func (w *world) key(id protocol.DaemonID) protocol.DaemonID {
	if w.mistake == shared {
		return "all"
	}
	return id
}

// start is Start, or what the mistake makes of it.
func (w *world) start(req StartRequest) (Record, Decision) {
	rec := w.record
	subs := req.Subscriptions
	_, known := rec.Daemons[w.key(req.Daemon)]
	switch req.Daemon = w.key(req.Daemon); w.mistake {
	case narrow:
		req.Subscriptions = []protocol.Subscription{{Pattern: protocol.AllEvents}}
	case keepEpoch:
		rec.Epoch = req.Epoch
	case startNow, connectedLow:
		if low, ok := w.mistakenFloor(rec.at(req.Epoch), req); !known && ok {
			req.HasResume, req.Resume = true, low
		}
	}
	next, d := start(rec, req, w.lim)
	own := next.Daemons[req.Daemon]
	switch w.mistake {
	case narrow:
		own.Subscriptions = subs
	case forgetIDs:
		own.AnswersFor = nil
	case othersRanges:
		for _, e := range rec.at(req.Epoch).Daemons {
			own.Floor, own.Settled = normalize(own.Floor, slices.Concat(own.Settled, e.Settled), w.lim.ranges)
		}
	case resumeRemoves, startNow, connectedLow:
		for id, e := range rec.Daemons {
			if id != req.Daemon && req.HasResume && req.gone(id) && Covers(req.Subscriptions, e.Subscriptions) {
				delete(next.Daemons, id)
			}
		}
	}
	next.Daemons[req.Daemon] = own
	d.Entry = own
	return next, d
}

// mistakenFloor is where the two mistakes about who is connected start.
func (w *world) mistakenFloor(rec Record, req StartRequest) (uint64, bool) {
	lowest := func(goneOnly bool) (low uint64, any bool) {
		for id, e := range rec.Daemons {
			if goneOnly && !req.gone(id) {
				continue
			}
			if !any || e.Floor < low {
				low, any = e.Floor, true
			}
		}
		return low, any
	}
	if low, any := lowest(true); any {
		return low, true
	}
	if w.mistake == startNow {
		return w.last, len(rec.Daemons) > 0
	}
	return lowest(false)
}

// apply is what Store does with a save: read, put it on top, write. s is nil
// for a save of long ago.
func (w *world) apply(s *simSession, own unsaved) {
	rec := w.record
	switch {
	case w.mistake == lateEpoch:
		own.epoch = max(own.epoch, rec.Epoch)
	case w.mistake == keepEpoch && own.epoch.Newer(rec.Epoch):
		rec.Epoch = own.epoch
	case w.mistake == blindWrite && s != nil:
		rec = s.cached
	}
	w.write(own.reapply(rec, w.lim))
}
