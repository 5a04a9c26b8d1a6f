package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
)

const (
	// stutter is to have a process stand still and go on, again and again: it is
	// slow, and never gone for as long as others wait for it.
	stutter lab.Action = "stutter"
	// narrow is to have a process send and get little at a time.
	narrow lab.Action = "narrow"
)

// pace is how slow something is.
type pace struct {
	still, going time.Duration // of a process, in turn
	kilobits     int           // a second, of a link
}

// slowKinds are each tier's process that is slow, and its link. They are drawn
// apart from the others, so that these follow from a seed as they did before.
func slowKinds() []kind {
	var all []kind
	for _, tier := range lab.Tiers() {
		all = append(all, kind{name: "slow-" + tier, slow: true, draw: func(w *lab.World, random *rand.Rand) []target {
			t := to(stutter, some(w.Tier(tier), 1, random)[0])
			t.pace.still = time.Duration(100+random.IntN(1800)) * time.Millisecond
			t.pace.going = time.Duration(20+random.IntN(200)) * time.Millisecond
			t.what += fmt.Sprintf(" (stands still for %s, goes on for %s)", t.pace.still, t.pace.going)
			return []target{t}
		}}, kind{name: "narrow-" + tier, slow: true, narrows: true, draw: func(w *lab.World, random *rand.Rand) []target {
			t := to(narrow, some(w.Tier(tier), 1, random)[0])
			t.pace.kilobits = 100 << random.IntN(4)
			t.what += fmt.Sprintf(" (%d kbit/s)", t.pace.kilobits)
			return []target{t}
		}})
	}
	return all
}
