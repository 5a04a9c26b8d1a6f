package cursor

import (
	"maps"
	"slices"

	"github.com/neolith/daemon-gateway/pkg/protocol"
)

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
	case unnoted:
		rec.Awaited = nil
	case startNow, connectedLow:
		if low, ok := w.mistakenFloor(rec.at(req.Epoch), req); !known && ok {
			req.HasResume, req.Resume = true, low
		}
	case keepHands:
		if e, ok := rec.Daemons[req.Daemon]; ok {
			e.Subscriptions = nil
			rec = rec.at(rec.Epoch)
			rec.Daemons[req.Daemon] = e
		}
	}
	next, d := start(rec, req, w.lim)
	own := next.Daemons[req.Daemon]
	switch w.mistake {
	case narrow:
		own.Subscriptions = subs
	case forgetIDs:
		own.AnswersFor = nil
	case keepName:
		for id, e := range rec.Daemons {
			if n, ok := next.Daemons[id]; ok && id != req.Daemon {
				n.AnswersFor = e.AnswersFor
				next.Daemons[id] = n
			}
		}
	case othersRanges:
		for _, e := range rec.at(req.Epoch).Daemons {
			own.Floor, own.Settled = normalize(own.Floor, slices.Concat(own.Settled, e.Settled), w.lim.ranges)
		}
	case resumeUnnoted:
		next.Awaited = maps.Clone(rec.at(req.Epoch).Awaited)
		delete(next.Awaited, req.Daemon)
	case keepRanges:
		if !known && !req.HasResume {
			own.Settled = settledByAll(rec.at(req.Epoch), w.lim).Settled
		}
	case resumeRemoves, startNow, connectedLow:
		for id, e := range rec.Daemons {
			if id != req.Daemon && req.HasResume && req.gone(e) && Covers(req.Subscriptions, e.Subscriptions) {
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
		for _, e := range rec.Daemons {
			if goneOnly && !req.gone(e) {
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

// distort is what the mistake makes of a report.
func (w *world) distort(l late) Progress {
	p := l.what
	stored, known := w.record.Daemons[l.by.daemon]
	switch {
	case w.mistake == lateEpoch:
		p.Epoch = max(p.Epoch, w.record.Epoch)
	case w.mistake == unfenced && known && !p.Abandoned:
		p.Entry.Generation = max(p.Entry.Generation, stored.Generation)
	case w.mistake == floorsAcked:
		p.Acked = append(p.Acked, Range{1, p.Entry.Floor})
	case w.mistake == unnoted:
		p.Passed = nil
	case w.mistake == holderUnnoted && known:
		p.Passed = maps.Clone(p.Passed)
		maps.DeleteFunc(p.Passed, func(id protocol.DaemonID, _ uint64) bool { return slices.Contains(stored.AnswersFor, id) })
	case w.mistake == keepsSpeaking:
		p.Narrowed = false
	case w.mistake == notPutBack && !known:
		p.Abandoned = true
	}
	return p
}
