//go:build !linux

package network_test

import "testing"

// runInside is never reached: there is no private network to be had.
func runInside(t *testing.T) { t.Fatal("a private network needs Linux") }
