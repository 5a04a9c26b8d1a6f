package gatewayctl

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/neolith/daemon-gateway/internal/operation"
)

// balance is what each edge holds, and sends away.
type balance struct {
	Edges  []edgeBalance      `json:"edges"`
	Sends  int                `json:"sends"` // together
	Silent []operation.Member `json:"silent"`
}

type edgeBalance struct {
	Edge string `json:"edge"`
	operation.BalanceReport
}

func (b balance) unwell() error { return silence(b.Silent) }

func (b balance) print(w io.Writer) {
	row(w, "EDGE", "CONNECTIONS", "MEAN", "SENDS AWAY", "A SECOND", "WHY NONE")
	for _, e := range b.Edges {
		row(w, e.Edge, fmt.Sprint(e.Connections), fmt.Sprintf("%.1f", e.Mean), fmt.Sprint(e.Sends), fmt.Sprint(e.Rate), dash(e.Keeps))
	}
	silent(w, b.Silent)
}

func (p *program) balanceCommand() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "balance",
		Short: "Have edges that hold more connections than the mean send some away, now",
		Long: "Have edges that hold more connections than the mean send some away, now: without waiting for BALANCE_AFTER, and from 5 % over the mean on. " +
			"An edge keeps BALANCE_MINIMUM, and sends BALANCE_RATE a second away (20 where that is 0). It ends when it holds its share, when edges " +
			"come or go, or when what it has sent away did not help. --dry-run says what it would be.",
		Args: cobra.NoArgs,
	}
	a := p.actFlags(c)
	c.Flags().Lookup("because").Usage = "why, for the audit log (required without --dry-run)"
	c.Flags().BoolVar(&dry, "dry-run", false, "do nothing, and say what would be done")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if !dry {
			if err := a.check(); err != nil {
				return err
			}
		}
		return p.ask(func(client *operation.Client) error { return p.balance(cmd.Context(), client, a, dry) })
	}
	return c
}

func (p *program) balance(ctx context.Context, client *operation.Client, a *act, dry bool) error {
	found, err := askBalance(ctx, client, operation.BalanceRequest{DryRun: true})
	if err != nil {
		return err
	}
	if !dry {
		if err := p.confirm(a, "Have %d connections sent away", found.Sends); err != nil {
			return err
		}
		if found, err = askBalance(ctx, client, operation.BalanceRequest{Act: a.Act}); err != nil {
			return err
		}
	}
	if err := p.show(found, found.print); err != nil {
		return err
	}
	return found.unwell()
}

func askBalance(ctx context.Context, client *operation.Client, r operation.BalanceRequest) (balance, error) {
	answers, err := client.Ask(ctx, operation.Balance, r, operation.Edge)
	if err != nil {
		return balance{}, err
	}
	found := balance{Edges: []edgeBalance{}, Silent: orNone(answers.Silent)}
	err = operation.Each(answers, func(of operation.Member, report operation.BalanceReport) {
		found.Edges = append(found.Edges, edgeBalance{of.Node, report})
		found.Sends += report.Sends
	})
	return found, err
}
