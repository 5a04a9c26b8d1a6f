package cursor

import "github.com/neolith/daemon-gateway/internal/eventlog"

// Moved returns the record as one of another epoch, in which the partition was
// put back to a time when it had all up to last: sequences up to there mean the
// same in both. It reports false, and everybody starts from the oldest retained
// event, if the record speaks of later ones. What those have looked for who came to
// a record that was lost is not known of an older one.
func (rec Record) Moved(to eventlog.Epoch, last uint64) (Record, bool) {
	for _, e := range rec.Daemons {
		if e.reach() > last {
			return Record{}, false
		}
	}
	for _, a := range rec.Awaited {
		if a.From > last {
			return Record{}, false
		}
	}
	return Record{
		Epoch: to, Daemons: rec.Daemons, Awaited: rec.Awaited, Presumed: rec.Presumed, Lost: Lost{Since: rec.Lost.Since},
	}, true
}

// reach is the highest sequence that the entry speaks of.
func (e Entry) reach() uint64 {
	highest := max(e.Floor, e.Unnamed, e.Sends.Sequence, e.Sent)
	if n := len(e.Settled); n > 0 {
		highest = max(highest, e.Settled[n-1].Last)
	}
	return highest
}
