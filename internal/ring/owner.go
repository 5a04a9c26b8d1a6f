package ring

// Owner returns which of the members is to have the key, by rendezvous
// hashing: every node that knows the same members answers alike, whatever
// their order, all members are equal, and when one comes or goes only the keys
// that it gets or had move. It returns "" if there are no members.
func Owner(key string, members []string) string {
	var owner string
	var best uint64
	for _, m := range members {
		if score := mix(hashText(hashText(hashStart, m)^0xff, key)); owner == "" || score > best || score == best && m < owner {
			owner, best = m, score
		}
	}
	return owner
}

const (
	hashStart uint64 = 14695981039346656037
	hashPrime uint64 = 1099511628211
)

// hashText continues an FNV-1a-64 hash over the text.
func hashText(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return h
}

// mix is the finalizer of SplitMix64: FNV alone leaves the high bits of texts
// that differ only at the end nearly equal, which would favour some members.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
