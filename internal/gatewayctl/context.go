package gatewayctl

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// clusterContext says how one cluster is reached, by the settings that it stands
// for. It holds no secret, only where secrets are.
type clusterContext map[string]string

// contexts are the clusters that this user knows by name.
type contexts struct {
	// Current is used where nothing else says which cluster is meant.
	Current  string                    `json:"current"`
	Contexts map[string]clusterContext `json:"contexts"`
}

// contextName is what a context may be called.
var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// contextFile is where contexts are kept.
func (p *program) contextFile() (string, error) {
	if file, _ := p.environ("GATEWAYCTL_CONTEXTS"); file != "" {
		return file, nil
	}
	directory, _ := p.environ("XDG_CONFIG_HOME")
	if home, _ := p.environ("HOME"); directory == "" && home != "" {
		directory = filepath.Join(home, ".config")
	}
	if directory == "" {
		return "", errors.New("where contexts are kept is not known: expected HOME, or GATEWAYCTL_CONTEXTS")
	}
	return filepath.Join(directory, "gatewayctl", "contexts.json"), nil
}

// loadContexts reads the contexts; without a file there are none.
func (p *program) loadContexts() (contexts, error) {
	c := contexts{Contexts: map[string]clusterContext{}}
	file, err := p.contextFile()
	if err != nil {
		return c, err
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read the contexts: %w", err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return c, fmt.Errorf("read the contexts: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return c, fmt.Errorf("others than you may use %s, and so lead you to another cluster: chmod 600 %s", file, file)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("read the contexts in %s: %w", file, err)
	}
	if c.Contexts == nil {
		c.Contexts = map[string]clusterContext{}
	}
	return c, nil
}

// saveContexts writes the contexts, for this user's eyes alone. A reader sees those
// of before or these.
func (p *program) saveContexts(c contexts) error {
	file, err := p.contextFile()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	directory := filepath.Dir(file)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return fmt.Errorf("keep the contexts: %w", err)
	}
	fresh, err := os.CreateTemp(directory, "contexts-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("keep the contexts: %w", err)
	}
	_, err = fresh.Write(append(text, '\n'))
	err = errors.Join(err, fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the contexts: %w", err), os.Remove(fresh.Name()))
	}
	return nil
}

// reaching are the settings that say which cluster is meant.
var reaching = []string{"NATS_URL", "NATS_URL_FILE", "NATS_CREDS_FILE", "NATS_NKEY_FILE", "NATS_TLS_CA", "NATS_TLS_CERT", "NATS_TLS_KEY", "NATS_TLS_FIRST", domainSetting}

// reach returns the environment from which the connection to NATS is configured:
// that of --context if it was given; else the process's own with the flags, if either
// says where NATS is; else the current context's. They are not mixed: half of one
// cluster's settings and half of another's would only be confusing.
func (p *program) reach() (func(string) (string, bool), error) {
	given := func(name string) bool {
		value, _ := p.environ(name)
		return value != ""
	}
	if p.context == "" && (p.contextless || len(p.flags) > 0 || slices.ContainsFunc(reaching, given)) {
		return p.environ, nil
	}
	known, err := p.loadContexts()
	name := cmp.Or(p.context, known.Current)
	if name == "" {
		return p.environ, nil // whatever is wrong with the contexts, none is wanted
	}
	if err != nil {
		return nil, err
	}
	chosen, ok := known.Contexts[name]
	if !ok {
		return nil, usageError{fmt.Errorf("there is no context %q: gatewayctl context list", name)}
	}
	return func(setting string) (string, bool) {
		if slices.Contains(reaching, setting) {
			value, ok := chosen[setting]
			return value, ok
		}
		return p.environ(setting)
	}, nil
}

func (p *program) contextCommand() *cobra.Command {
	c := &cobra.Command{Use: "context", Short: "Name clusters, and say which one is meant"}
	c.AddCommand(p.addContextCommand(), p.listContextsCommand(), p.useContextCommand(), p.removeContextCommand())
	return c
}

func (p *program) addContextCommand() *cobra.Command {
	var use bool
	c := &cobra.Command{
		Use:   "add <name>",
		Short: "Name a cluster by the --nats flags that are given",
		Long: "Name a cluster by the --nats flags that are given, in ~/.config/gatewayctl/contexts.json (GATEWAYCTL_CONTEXTS names another file), " +
			"which nobody else may read. Passwords do not go there: --nats-url-file names a file with a URL that has one, --nats-creds-file one " +
			"with credentials. The first context, or with --use this one, becomes the current one.",
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&use, "use", false, "make it the current one")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		added, err := newContext(args[0], func(flag string) (string, bool) {
			f := cmd.Flags().Lookup(flag)
			return f.Value.String(), f.Changed
		})
		if err != nil {
			return usageError{err}
		}
		known, err := p.loadContexts()
		if err != nil {
			return err
		}
		known.Contexts[args[0]] = added
		if use || known.Current == "" {
			known.Current = args[0]
		}
		if err := p.saveContexts(known); err != nil {
			return err
		}
		return p.showContexts(known)
	}
	return c
}

// newContext makes a context of flags.
func newContext(name string, flag func(string) (string, bool)) (clusterContext, error) {
	if !contextName.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a context: expected letters, digits, dots, dashes and underscores", name)
	}
	c := clusterContext{}
	for _, f := range natsFlags {
		value, given := flag(f.name)
		if !given {
			continue
		}
		if f.setting == "NATS_URL" {
			if err := keepable(value); err != nil {
				return nil, err
			}
			c[f.setting] = value
			continue
		}
		if f.setting == "NATS_TLS_FIRST" || f.setting == domainSetting { // no file
			c[f.setting] = value
			continue
		}
		path, err := filepath.Abs(value)
		if err != nil {
			return nil, err
		}
		c[f.setting] = path
	}
	if c["NATS_URL"] == "" && c["NATS_URL_FILE"] == "" {
		return nil, errors.New("where is NATS? Give --nats-url or --nats-url-file")
	}
	return c, nil
}

// keepable says why URLs of servers cannot be kept in a context. None is repeated: it may
// have a password.
func keepable(urls string) error {
	// In a list of URLs each has its own user, and a list parses as a URL of the first.
	if strings.Contains(urls, "@") {
		return errors.New("--nats-url with user or password would keep them in the file of contexts: " +
			"write it into a file of its own, and give --nats-url-file, or give --nats-creds-file")
	}
	for text := range strings.SplitSeq(urls, ",") {
		if u, err := url.Parse(strings.TrimSpace(text)); err != nil || u.Hostname() == "" {
			return errors.New("--nats-url: expected nats://host[:port] for each server, or tls://, ws:// or wss://")
		}
	}
	return nil
}

func (p *program) listContextsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the named clusters", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			known, err := p.loadContexts()
			if err != nil {
				return err
			}
			return p.showContexts(known)
		},
	}
}

func (p *program) showContexts(known contexts) error {
	return p.show(known, func(w io.Writer) {
		row(w, "CURRENT", "NAME", "NATS", "CREDENTIALS")
		for _, name := range slices.Sorted(maps.Keys(known.Contexts)) {
			c, current := known.Contexts[name], ""
			if name == known.Current {
				current = "*"
			}
			row(w, current, name, cmp.Or(c["NATS_URL"], c["NATS_URL_FILE"]), dash(cmp.Or(c["NATS_CREDS_FILE"], c["NATS_NKEY_FILE"], c["NATS_TLS_CERT"], c["NATS_URL_FILE"])))
		}
	})
}

func (p *program) useContextCommand() *cobra.Command {
	return p.onContext("use <name>", "Make a named cluster the current one", func(known *contexts, name string) { known.Current = name })
}

func (p *program) removeContextCommand() *cobra.Command {
	return p.onContext("remove <name>", "Forget a named cluster; its files of credentials stay", func(known *contexts, name string) {
		delete(known.Contexts, name)
		if known.Current == name {
			known.Current = ""
		}
	})
}

// onContext makes a command of what is done to a context that there is.
func (p *program) onContext(use, short string, do func(known *contexts, name string)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: p.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			known, err := p.loadContexts()
			if err != nil {
				return err
			}
			if known.Contexts[args[0]] == nil {
				return usageError{fmt.Errorf("there is no context %q: gatewayctl context list", args[0])}
			}
			do(&known, args[0])
			if err := p.saveContexts(known); err != nil {
				return err
			}
			return p.showContexts(known)
		},
	}
}

// completeContexts offers the names of contexts.
func (p *program) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	known, err := p.loadContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.Sorted(maps.Keys(known.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
