package process

import "syscall"

// Stall has a process stand still, and what it has started, that one's
// processes in turn, and so on for some generations, as on a machine that has no
// time for them, until resume is called. Whoever stands still already is left as
// it is, now and by resume.
func Stall(id, generations int) (resume func()) {
	stalled := stall(id, generations)
	return func() {
		// The oldest last: while it stands still it cannot pause any of the others,
		// which this would let go on.
		for i := len(stalled) - 1; i >= 0; i-- {
			_ = syscall.Kill(stalled[i], syscall.SIGCONT)
		}
	}
}

// stall returns what did not stand still already, parents before their
// children.
func stall(id, generations int) (ids []int) {
	if isPaused(id) {
		return nil
	}
	stand(id)
	ids = []int{id}
	if generations > 0 {
		for _, child := range children(id) {
			ids = append(ids, stall(child, generations-1)...)
		}
	}
	return ids
}
