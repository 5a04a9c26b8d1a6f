package gatewayctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Reference writes what --help says of each command, for docs/gatewayctl.md.
func Reference(w io.Writer) error {
	root := Command()
	text := &strings.Builder{}
	describe(text, root)
	fmt.Fprintf(text, "Flags of every command:\n\n```\n%s```\n", root.PersistentFlags().FlagUsagesWrapped(wrapped))
	_, err := io.WriteString(w, text.String())
	return err
}

const wrapped = 100

func describe(w io.Writer, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.HasSubCommands() {
			describe(w, sub)
			continue
		}
		if !sub.IsAvailableCommand() || sub.Name() == "help" {
			continue
		}
		about := sub.Long
		if about == "" {
			about = sub.Short + "."
		}
		fmt.Fprintf(w, "### %s\n\n```\n%s\n```\n\n%s\n\n", strings.TrimPrefix(sub.CommandPath(), c.Root().Name()+" "), sub.UseLine(), fold(about))
		if flags := sub.LocalNonPersistentFlags().FlagUsagesWrapped(wrapped); flags != "" {
			fmt.Fprintf(w, "```\n%s```\n\n", flags)
		}
		if result, ok := results[strings.TrimPrefix(sub.CommandPath(), c.Root().Name()+" ")]; ok {
			fmt.Fprint(w, "With `-o json`:\n\n```\n")
			writeShape(w, result)
			fmt.Fprint(w, "```\n\n")
		}
	}
}

// fold wraps prose.
func fold(text string) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > wrapped {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return strings.Join(append(lines, line), "\n")
}
