package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// notes are what helm prints after an installation of the minimal values with a
// change.
func notes(t *testing.T, change map[string]any) string {
	t.Helper()
	values, err := Values(examples()["minimal"]...)
	require.NoError(t, err)
	for key, value := range change {
		values[key] = value
	}
	templates, err := Release{Name: "gateway", Namespace: "somewhere", Values: values}.Render()
	require.NoError(t, err)
	for _, template := range templates {
		if strings.HasSuffix(template.Name, "/NOTES.txt") {
			return template.Text
		}
	}
	require.Fail(t, "there are no notes")
	return ""
}

func TestTheNotesSayWhereToConnectAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	type values = map[string]any
	proxies := values{"TRUSTED_PROXIES": "10.0.0.0/8"}
	for name, c := range map[string]struct {
		change    values
		says, not []string
	}{
		"inside": {
			values{},
			[]string{"ws://gateway-daemon-gateway-edge:8080/daemon/ws; from outside the cluster they cannot yet", "helm -n somewhere test gateway", "Nothing scrapes"},
			[]string{"Backends publish", "evaluation", "TRUSTED_PROXIES", "made up"},
		},
		"ingress": {
			values{"ingress": values{"enabled": true, "host": "g.example", "tlsSecret": "tls"}, "edge": values{"settings": values{"WS_PATH": "/sockets"}}},
			[]string{"wss://g.example/sockets.", "TRUSTED_PROXIES is not set"},
			[]string{"cannot yet", "/daemon/ws"},
		},
		"ingress without TLS, behind known proxies": {
			values{"ingress": values{"enabled": true, "host": "g.example"}, "edge": values{"settings": proxies}},
			[]string{" ws://g.example/daemon/ws."},
			[]string{"TRUSTED_PROXIES"},
		},
		"gateway": {
			values{"gateway": values{"enabled": true, "parentRefs": []any{values{"name": "public"}}}},
			[]string{"the hosts of its Gateway by the HTTPRoute gateway-daemon-gateway-edge, path /daemon/ws."},
			[]string{"cannot yet"},
		},
		"load balancer": {
			values{"edge": values{"service": values{"type": "LoadBalancer", "port": 443}, "tlsSecret": "tls"}},
			[]string{"wss://<address>:443/daemon/ws", "get service gateway-daemon-gateway-edge"},
			[]string{"cannot yet"},
		},
		"node port": {
			values{"edge": values{"service": values{"type": "NodePort"}}},
			[]string{"ws://<node>:<port>/daemon/ws", "get service gateway-daemon-gateway-edge"},
			[]string{"cannot yet"},
		},
		"intake": {
			values{"intake": values{"enabled": true, "existingSecret": "keys"}, "monitoring": values{"serviceMonitor": values{"enabled": true}}},
			[]string{"http://gateway-daemon-gateway-intake.somewhere:8081/v1/events with one of the API keys whose hashes are in the Secret keys."},
			[]string{"Nothing scrapes"},
		},
		"intake by an Ingress": {
			values{"intake": values{"enabled": true, "existingSecret": "keys", "ingress": values{"enabled": true, "host": "e.example", "tlsSecret": "tls"}}},
			[]string{"https://e.example/v1/events with"},
			nil,
		},
		"evaluation": {
			values{"jwt": values{"generate": true}, "nats": values{"enabled": true}, "redis": values{"enabled": true}},
			[]string{"This is an evaluation", "get secret gateway-daemon-gateway-jwt -o jsonpath='{.data.jwt-secret}'"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := notes(t, c.change)
			for _, part := range c.says {
				require.Contains(t, text, part)
			}
			for _, part := range c.not {
				require.NotContains(t, text, part)
			}
			require.NotContains(t, text, "\n\n\n")
		})
	}
}
