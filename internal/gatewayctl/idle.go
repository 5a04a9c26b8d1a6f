package gatewayctl

import "github.com/spf13/cobra"

// idleCommand is for the main process of a pod or container that operators enter:
// the image has no shell that could wait there. It needs no NATS.
func (p *program) idleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "idle",
		Short: "Do nothing until ended, as the main process of a pod for kubectl exec",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			<-cmd.Context().Done()
			return nil
		},
	}
}
