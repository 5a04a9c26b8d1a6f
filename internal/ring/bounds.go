package ring

import (
	"cmp"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/neolith/daemon-gateway/internal/share"
)

// Whoever has the gossip key may invent members, and claims of theirs. These bounds keep
// that from taking the memory of every node: a node that knows less than there is
// delivers later, and one that has ended delivers nothing.
const (
	// maxMembers bounds the members that are alive. Each has a sender here, and a
	// stream that stays open: maxStanding.
	maxMembers = maxStanding
	// newMembers bounds how many become members in deadFor, for which memberlist
	// remembers those that are gone; and how many at once, such as all of them.
	newMembers = 2 * maxMembers
	deadFor    = time.Minute
	// directoryBytes is DIRECTORY_MAX_BYTES where it is not given.
	directoryBytes = 256 << 20
	// claimBytes is what a claim takes here beside its texts, and batchBytes a batch.
	claimBytes, batchBytes = 180, 64
	// maxClaimText bounds the texts of a claim: three ids of 128 bytes, of which the
	// orchestrator's is a token that may be three times as long.
	maxClaimText = 1024
	// fullPause is for how long an edge whose claims find no room is not asked for them,
	// and after how long it is told again that a bound is reached.
	fullPause = time.Minute
)

// room is what the claims of others may take, of which each edge has its share.
func (c Config) room() *share.Pool[edgeID] {
	return share.New[edgeID](cmp.Or(int64(c.DirectoryMaxBytes), directoryBytes))
}

// text is what has been read of a claim into scratch; more than one has is an error.
func (r *reader) text() string {
	if len(r.scratch) > maxClaimText {
		r.fail(errBounds)
	}
	return string(r.scratch)
}

// cost is what a claim takes of the room.
func (c Claim) cost() int64 {
	return claimBytes + int64(len(c.Orchestrator)+len(c.Session)+len(c.Daemon))
}

// cost is what a batch takes of the room while it waits for its turn.
func (b batch) cost() int64 {
	n := int64(batchBytes)
	for _, c := range b.Changes {
		n += c.Claim.cost()
	}
	return n
}

// cost is what a chunk takes of the room until its snapshot is complete.
func (c chunk) cost() int64 {
	n := int64(batchBytes)
	for _, claim := range c.Claims {
		n += claim.cost()
	}
	return n
}

// takeInLocked takes in a claim of another edge, if there is room for it. t.mu is held.
func (t *table) takeInLocked(e *edge, c Claim) bool {
	if old := e.claims[c.Session]; old != nil && old.Claim == c {
		return true
	}
	if !t.room.Take(e.id, c.cost()) {
		return false
	}
	t.putLocked(e, c)
	return true
}

// emptyLocked forgets what another edge claims. t.mu is held.
func (t *table) emptyLocked(e *edge) {
	for session := range e.claims {
		t.takeOutLocked(e, session)
	}
	e.version = 0
	e.publishLocked()
}

// empty forgets what another edge claims.
func (t *table) empty(id edgeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.edges[id]; e != nil && e != t.own {
		t.emptyLocked(e)
	}
}

// noteNoRoom tells of an edge whose claims find no room.
func (d *Directory) noteNoRoom(id edgeID) {
	d.unroomed.Do(func() {
		name := ""
		for _, m := range d.Members(TierEdge) {
			if idOf(m.Name) == id {
				name = m.Name
			}
		}
		d.logger.Error("what an edge claims finds no room, events for its daemons come later", "member", name, "again_in", fullPause)
	})
}

// noteCrowd tells that somebody is refused as a member.
func (d *Directory) noteCrowd() {
	d.logger.Error("gossip names more members than may be, those that are new are refused", "members", maxMembers)
}

// admission decides who may become a member. Who is one stays one. Its methods may be
// called at any time.
type admission struct {
	metrics *metrics
	tell    func()        // that somebody is refused, once in a while; set once
	pace    *rate.Limiter // of those that are new

	mu      sync.Mutex
	members map[string]struct{} // that are alive; guarded by mu
	told    time.Time           // guarded by mu
}

func newAdmission(m *metrics) *admission {
	return &admission{
		metrics: m, tell: func() {}, members: make(map[string]struct{}),
		pace: rate.NewLimiter(rate.Every(deadFor/newMembers), newMembers),
	}
}

// admits reports whether somebody is a member, or may become one now.
func (a *admission) admits(now time.Time, name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.members[name]
	if known || len(a.members) < maxMembers && a.pace.AllowN(now, 1) {
		return true
	}
	a.metrics.dropped(dropMembers)
	if now.Sub(a.told) >= fullPause {
		a.told = now
		a.tell()
	}
	return false
}

func (a *admission) joined(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.members[name] = struct{}{}
}

func (a *admission) left(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.members, name)
}
