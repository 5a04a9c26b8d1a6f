package ring

// pending gathers what the watchers have not been told yet. A claim that comes
// and goes meanwhile cancels out, so however long a watcher blocks, there is
// never more here than what it knows and what there is. Guarded by table.mu.
type pending struct {
	// off says that nobody watches and nothing is gathered.
	off     bool
	added   []*held
	removed []*held
	wake    chan struct{}
}

func (p *pending) add(h *held) {
	if p.off {
		return
	}
	p.added = append(p.added, h)
	h.untold = len(p.added)
	signal(p.wake)
}

func (p *pending) remove(h *held) {
	switch {
	case p.off:
		return
	case h.untold > 0:
		last := p.added[len(p.added)-1]
		p.added[h.untold-1] = last
		last.untold = h.untold
		p.added[len(p.added)-1] = nil
		p.added = p.added[:len(p.added)-1]
		h.untold = 0
	default:
		p.removed = append(p.removed, h)
		signal(p.wake)
	}
}

func (p *pending) take() (added, removed []*held) {
	added, removed = p.added, p.removed
	p.added, p.removed = nil, nil
	for _, h := range added {
		h.untold = 0
	}
	return added, removed
}

// signal wakes whoever waits on a channel of capacity one.
func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
