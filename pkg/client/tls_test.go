package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neolith/daemon-gateway/pkg/client"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestConnectsOverTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(playGateway))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c, err := client.New(client.Config{
		URLs:           []string{strings.Replace(server.URL, "https", "wss", 1) + protocol.Path},
		Token:          func(context.Context) (string, error) { return "token", nil },
		OrchestratorID: "o", DaemonID: "d",
		Subscriptions: []protocol.Subscribe{{EventTypes: []protocol.Pattern{protocol.AllEvents}}},
		TLSConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Handler: func(_ context.Context, e protocol.Event) error {
			stop()
			return nil
		},
	})
	require.NoError(t, err)
	require.NoError(t, c.Run(ctx))
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}
