package settings

import (
	"log/slog"
	"strings"

	"github.com/neolith/daemon-gateway/internal/buildinfo"
)

// Features are what of a program can be switched on, and is.
type Features []string

// Add adds a feature that is switched on.
func (f *Features) Add(name string, on bool) {
	if on {
		*f = append(*f, name)
	}
}

// Starting logs the first line of a program: which build it is, the addresses that
// it serves and uses, and what is switched on.
func Starting(logger *slog.Logger, program string, on Features, addresses ...any) {
	attrs := append([]any{"program", program, "version", buildinfo.Get().String()}, addresses...)
	logger.Info("starting", append(attrs, "switched_on", strings.Join(on, ", "))...)
}
