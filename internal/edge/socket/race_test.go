//go:build race

package socket

// With the race detector frames are larger, and the smallest stack is too small
// for those of a goroutine that waits.
func init() { mostIdleStack = 5 << 10 }
