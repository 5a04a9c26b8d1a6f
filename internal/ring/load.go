package ring

// Load is a live edge and how many connections it holds, as far as this node
// knows.
type Load struct {
	Member
	Connections int
}

// Loads returns all live edges with their connections, this node included,
// ordered by name. Canaries are not counted.
func (d *Directory) Loads() []Load {
	edges := d.Members(TierEdge)
	loads := make([]Load, len(edges))
	for i, m := range edges {
		loads[i] = Load{Member: m, Connections: d.table.connections(idOf(m.Name))}
	}
	return loads
}

// Current reports whether this node has settled and knows of no other edge's
// change that it lacks.
func (d *Directory) Current() bool { return d.Settled() && d.lagSince.Load() == nil }
