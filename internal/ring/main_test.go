package ring

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain fails the package on leaked goroutines. memberlist's handlers of
// accepted streams may outlive Shutdown until their deadline of 5 s.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(8 * time.Second)
	err := goleak.Find()
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "leaked goroutines:", err)
		code = 1
	}
	os.Exit(code)
}
