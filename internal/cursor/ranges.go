package cursor

import (
	"cmp"
	"slices"
)

// normalize brings a floor and any ranges into an entry's form: sorted,
// overlapping and adjacent ones joined, those that begin at or below the floor
// (or right after it) made part of it, and only the lowest limit of them kept.
// The input is not modified.
func normalize(floor uint64, ranges []Range, limit int) (uint64, []Range) {
	rest := join(ranges)
	for len(rest) > 0 && touches(floor, rest[0]) {
		floor = max(floor, rest[0].Last)
		rest = rest[1:]
	}
	if rest = rest[:min(len(rest), limit)]; len(rest) == 0 {
		return floor, nil
	}
	return floor, rest
}

// join returns the ranges sorted, overlapping and adjacent ones as one.
func join(ranges []Range) []Range {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	joined := sorted[:0]
	for _, r := range sorted {
		switch {
		case r.Last < r.First:
			// Not a range: it claims nothing.
		case len(joined) > 0 && touches(joined[len(joined)-1].Last, r):
			last := &joined[len(joined)-1]
			last.Last = max(last.Last, r.Last)
		default:
			joined = append(joined, r)
		}
	}
	return joined
}

// touches reports whether nothing lies between last and the range.
func touches(last uint64, r Range) bool { return r.First <= last || r.First-1 == last }

// intersect returns what is settled in both entries: the state of a daemon
// that may rely only on what each of the two has settled.
func intersect(a, b Entry, limit int) (uint64, []Range) {
	as, bs := spans(a), spans(b)
	var both []Range
	for i, j := 0, 0; i < len(as) && j < len(bs); {
		if first, last := max(as[i].First, bs[j].First), min(as[i].Last, bs[j].Last); first <= last {
			both = append(both, Range{first, last})
		}
		if as[i].Last < bs[j].Last {
			i++
		} else {
			j++
		}
	}
	// The first is what both floors share: it begins at 0.
	return normalize(0, both, limit)
}

// spans returns all that is settled in the entry, the floor as a range from 0.
func spans(e Entry) []Range {
	return append([]Range{{0, e.Floor}}, e.Settled...)
}
