// Command gatewayctl is what operators ask a running gateway with, and act on it.
package main

import (
	"os"

	"github.com/neolith/daemon-gateway/internal/gatewayctl"
)

func main() { os.Exit(gatewayctl.Main(os.Args, os.Environ(), os.Stdin, os.Stdout, os.Stderr)) }
