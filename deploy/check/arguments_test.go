package check

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// Arguments can be read by every process that may look at another one, and stand
// in what container engines and clusters show of it.
func TestNoSecretOfTheChartStandsInAnArgument(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for _, w := range c.workloads() {
			for _, container := range append(w.pod.Spec.InitContainers, w.pod.Spec.Containers...) {
				var secret []string
				for _, e := range container.Env {
					if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
						secret = append(secret, e.Name)
					}
				}
				for _, argument := range argumentsOf(container) {
					for _, name := range secret {
						require.NotContains(t, argument, "$("+name+")", "%s: Kubernetes puts the secret there", w.name)
					}
				}
			}
		}
	})
}

// argumentsOf are those of all that a container runs.
func argumentsOf(container corev1.Container) []string {
	arguments := append(container.Command, container.Args...)
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
		if probe != nil && probe.Exec != nil {
			arguments = append(arguments, probe.Exec.Command...)
		}
	}
	return arguments
}

func TestNoSecretOfTheComposeFileStandsInAnArgument(t *testing.T) {
	t.Parallel()
	secrets := []string{"psecret", strings.TrimSpace(contents["gossip-keys"]), contents["jwt-secret"]}
	for _, service := range project(t).Services {
		arguments := append(service.Entrypoint, service.Command...)
		if service.HealthCheck != nil {
			arguments = append(arguments, service.HealthCheck.Test...)
		}
		for _, argument := range arguments {
			for _, secret := range secrets {
				require.NotContains(t, argument, secret, service.Name)
			}
		}
	}
}

// What the shell makes of the commands of Redis, with a real server.
func TestRedisTakesItsPasswordFromElsewhereThanItsArguments(t *testing.T) {
	t.Parallel()
	values, err := Values("values-evaluation.yaml")
	require.NoError(t, err)
	commands := map[string][]string{"Compose": project(t).Services["redis"].Entrypoint}
	for _, w := range install(t, values).workloads() {
		if w.component() == "redis" {
			commands["chart"] = w.container().Command
		}
	}
	require.Len(t, commands, 2)
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const password = `p"a\ssword $HOME`
			host, port, err := net.SplitHostPort(freeAddress(t))
			require.NoError(t, err)
			script := command[len(command)-1]
			require.Contains(t, script, "exec redis-server -")
			script = strings.Replace(script, "redis-server -", fmt.Sprintf("redis-server --port %s --bind %s -", port, host), 1)
			server := exec.Command(command[0], append(command[1:len(command)-1:len(command)-1], script)...)
			server.Dir, server.Env = t.TempDir(), []string{"PATH=" + os.Getenv("PATH"), "REDIS_PASSWORD=" + password}
			require.NoError(t, server.Start())
			t.Cleanup(func() {
				_ = server.Process.Kill()
				_ = server.Wait()
			})
			require.Equal(t, "-NOAUTH", redis(t, net.JoinHostPort(host, port), `PING`))
			require.Equal(t, "-WRONGPASS", redis(t, net.JoinHostPort(host, port), `AUTH another`))
			require.Equal(t, "+OK", redis(t, net.JoinHostPort(host, port), `AUTH "p\"a\\ssword $HOME"`))
			arguments, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(server.Process.Pid), "cmdline"))
			require.NoError(t, err)
			require.Contains(t, string(arguments), "redis-server")
			require.NotContains(t, string(arguments), "ssword")
		})
	}
}

// redis returns the first word of what a server answers to a command, once it is
// there.
func redis(t *testing.T, address, command string) string {
	t.Helper()
	var conn net.Conn
	require.Eventually(t, func() bool {
		var err error
		conn, err = net.Dial("tcp", address)
		return err == nil
	}, patience, 20*time.Millisecond)
	defer func() { _ = conn.Close() }()
	_, err := fmt.Fprintf(conn, "%s\r\n", command)
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return strings.Fields(line)[0]
}
