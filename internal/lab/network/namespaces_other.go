//go:build !linux

package network

import "errors"

var errNotLinux = errors.New("a private network needs Linux")

// Check says why there can be no private network here.
func Check() error { return errNotLinux }

// Enter fails: there are no namespaces here.
func Enter([]string) error { return errNotLinux }

func claimNamespaces() error { return errNotLinux }
