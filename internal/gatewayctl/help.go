package gatewayctl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// helpful has --help of each command wrap its lines, and a flag that is not known bring
// the one that may have been meant.
func helpful(root *cobra.Command) {
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages |", fmt.Sprintf(".FlagUsagesWrapped %d |", wrapped)))
	root.SetFlagErrorFunc(suggest)
	foldAll(root)
}

// foldAll wraps what commands say of themselves.
func foldAll(c *cobra.Command) {
	c.Long = fold(c.Long)
	for _, sub := range c.Commands() {
		foldAll(sub)
	}
}

// suggest adds the name of a flag to the error of one that there is not. It repeats no
// value, which may be a secret.
func suggest(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	if meant := settings.Nearest(unknown.GetSpecifiedName(), known); meant != "" {
		return fmt.Errorf("%w, did you mean --%s?", err, meant)
	}
	return fmt.Errorf("%w, %s --help lists all", err, c.CommandPath())
}
