package lifecycle

import (
	"sync"
	"testing"
)

func TestACrewRunsEverythingSideBySide(t *testing.T) {
	t.Parallel()
	var crew Crew
	for range 3 { // with new goroutines, and with those of before
		var all sync.WaitGroup
		all.Add(2 * maxIdle)
		for range 2 * maxIdle {
			crew.Go(func() {
				all.Done()
				all.Wait() // hangs unless all of them run
			})
		}
		all.Wait()
	}
	crew.Dismiss()
}

func TestADismissedCrewKeepsNobody(t *testing.T) {
	t.Parallel()
	var crew Crew
	begun, release := make(chan struct{}), make(chan struct{})
	crew.Go(func() {
		close(begun)
		<-release
	})
	<-begun
	crew.Dismiss()
	close(release)
	done := make(chan struct{})
	crew.Go(func() { close(done) })
	<-done
	// TestMain finds goroutines that are left.
}
