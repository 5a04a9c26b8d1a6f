package access

import (
	"container/heap"
	"container/list"
	"net/netip"
)

// waiting are the connections that have not authenticated. Who has to go for a
// further one is found so that no network costs another one its places: of the
// network that has most of them the connection that was used least recently; of
// several such networks the one whose that is. The zero value is empty. It is not
// safe for concurrent use.
type waiting struct {
	crowds map[netip.Addr]*crowd // of networks that are known
	order  crowds                // all of them
	uses   uint64                // so far, to tell which was more recent
	count  int
}

// crowd are the waiting connections of a network, or the one of which nobody has
// said yet for whom a proxy has made it.
type crowd struct {
	network netip.Addr // invalid: not known
	members list.List  // of *Conn, the one used least recently first
	at      int        // in the heap
}

// place is where a connection waits.
type place struct {
	crowd   *crowd
	element *list.Element
	used    uint64
}

// add has a connection wait for a network, as one that was used just now. An
// invalid network is not known, and stands for nobody else.
func (w *waiting) add(c *Conn, network netip.Addr) {
	cr := w.crowds[network]
	if cr == nil {
		cr = &crowd{network: network}
		if network.IsValid() {
			if w.crowds == nil {
				w.crowds = make(map[netip.Addr]*crowd)
			}
			w.crowds[network] = cr
		}
	}
	w.uses++
	w.count++
	c.place = &place{crowd: cr, element: cr.members.PushBack(c), used: w.uses}
	if cr.members.Len() == 1 {
		heap.Push(&w.order, cr)
		return
	}
	heap.Fix(&w.order, cr.at)
}

// remove takes a connection out, if it waits.
func (w *waiting) remove(c *Conn) {
	if c.place == nil {
		return
	}
	cr, element := c.place.crowd, c.place.element
	w.count--
	if cr.members.Len() == 1 {
		heap.Remove(&w.order, cr.at) // which looks at the member
		delete(w.crowds, cr.network) // nothing, where it is not known
		cr.members.Remove(element)
	} else {
		cr.members.Remove(element)
		heap.Fix(&w.order, cr.at)
	}
	c.place = nil
}

// use says that a connection was used just now, if it waits.
func (w *waiting) use(c *Conn) {
	if c.place != nil {
		w.move(c, c.place.crowd.network)
	}
}

// move has a connection that waits do so for another network, as one that was used
// just now.
func (w *waiting) move(c *Conn, network netip.Addr) {
	if c.place == nil {
		return
	}
	w.remove(c)
	w.add(c, network)
}

// next is who has to go for a further connection. There is one.
func (w *waiting) next() *Conn { return w.order[0].oldest() }

func (cr *crowd) oldest() *Conn { return cr.members.Front().Value.(*Conn) }

// crowds are a heap: who has to go next is of the first.
type crowds []*crowd

func (h crowds) Len() int { return len(h) }

func (h crowds) Less(i, j int) bool {
	if a, b := h[i].members.Len(), h[j].members.Len(); a != b {
		return a > b
	}
	return h[i].oldest().place.used < h[j].oldest().place.used
}

func (h crowds) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *crowds) Push(x any) {
	cr := x.(*crowd)
	cr.at = len(*h)
	*h = append(*h, cr)
}

// Pop implements heap.Interface.
func (h *crowds) Pop() any {
	last := len(*h) - 1
	cr := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return cr
}
