package check

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

func contains(list []string, value string) bool { return slices.Contains(list, value) }

func seconds(t *testing.T, text string) int64 {
	t.Helper()
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return int64(d.Seconds())
}

// external are the Secrets that an example says are made by hand, with their keys.
var external = map[string][]string{
	"gateway-jwt":      {"jwt-secret"},
	"gateway-gossip":   {"gossip-keys"},
	"gateway-nats":     {"edge-url", "router-url", "bridge-url", "admin-url", "operator-url", "backup-url"},
	"gateway-redis":    {"redis-url"},
	"gateway-postgres": {"database-url"},
	"gateway-intake":   {"api-keys"},
	"jwt":              {"jwt-secret", "jwt-secret-previous"},
	"nats-creds":       {"edge.creds", "router.creds", "bridge.creds", "admin.creds", "operator.creds", "backup.creds"},
	"nats-nkeys":       {"edge.nk", "router.nk", "bridge.nk", "admin.nk", "operator.nk", "backup.nk"},
	"nats-tls":         {"ca.crt", "tls.crt", "tls.key"},
	"edge-tls":         {"tls.crt", "tls.key"},
	"edge-clients":     {"ca.crt"},
	"intake-tls":       {"tls.crt", "tls.key"},
	"intake-clients":   {"ca.crt"},
	"redis-tls":        {"ca.crt", "tls.crt", "tls.key"},
	"postgres-tls":     {"ca.crt", "tls.crt", "tls.key"},
	"backup-s3":        {"access-key-id", "secret-access-key"},
	"backup-signing":   {"signing.pem", "signing-public.pem"},
	"backup-identity":  {"identity.txt"},
	"jwt-public":       {"keys.pem", "keys.json"},
	"otel-collector":   {"headers"},
}

// requireKey checks that a Secret will be there and has the key.
func (c *installation) requireKey(secret, key string) {
	c.t.Helper()
	if made, ok := all[corev1.Secret](c)[secret]; ok {
		require.NotEmpty(c.t, string(made.Data[key])+made.StringData[key], "Secret %s: %s", secret, key)
		return
	}
	require.Contains(c.t, external, secret, "a Secret that neither the chart nor anybody else makes")
	require.Contains(c.t, external[secret], key, "Secret %s", secret)
}

func TestWhatPodsReferToExists(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		accounts, configs := all[corev1.ServiceAccount](c), all[corev1.ConfigMap](c)
		for _, w := range c.workloads() {
			pod := w.pod.Spec
			if pod.ServiceAccountName != "" {
				require.Contains(t, accounts, pod.ServiceAccountName)
				require.False(t, *accounts[pod.ServiceAccountName].AutomountServiceAccountToken)
			}
			var volumes, mounted []string
			for _, v := range pod.Volumes {
				volumes = append(volumes, v.Name)
				if v.ConfigMap != nil {
					require.Contains(t, configs, v.ConfigMap.Name)
				}
				if v.PersistentVolumeClaim != nil {
					require.Contains(t, all[corev1.PersistentVolumeClaim](c), v.PersistentVolumeClaim.ClaimName)
				}
			}
			for _, s := range pod.Containers[0].VolumeMounts {
				mounted = append(mounted, s.Name)
			}
			for _, claim := range mounted {
				require.True(t, contains(volumes, claim) || claim == "data", "%s mounts %s", w.name, claim)
			}
			for _, volume := range volumes {
				require.Contains(t, mounted, volume, w.name)
			}
			for _, e := range pod.Containers[0].Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					c.requireKey(e.ValueFrom.SecretKeyRef.Name, e.ValueFrom.SecretKeyRef.Key)
				}
			}
			c.files(w)
		}
	})
}

// files returns the paths of all files of Secrets in a pod, and checks that
// each Secret has them.
func (c *installation) files(w workload) []string {
	c.t.Helper()
	folders := map[string]string{}
	for _, m := range w.container().VolumeMounts {
		folders[m.Name] = m.MountPath
	}
	var files []string
	for _, v := range w.pod.Spec.Volumes {
		switch {
		case v.Projected != nil:
			for _, source := range v.Projected.Sources {
				for _, item := range source.Secret.Items {
					c.requireKey(source.Secret.Name, item.Key)
					files = append(files, folders[v.Name]+"/"+item.Path)
				}
			}
		case v.Secret != nil:
			for _, key := range []string{"tls.crt", "tls.key"} {
				c.requireKey(v.Secret.SecretName, key)
				files = append(files, folders[v.Name]+"/"+key)
			}
		}
	}
	return files
}

// What a tier is not to have, its pods do not have: a stolen edge does not know
// the bridges' password.
func TestATierSeesItsOwnSecretsAlone(t *testing.T) {
	t.Parallel()
	values, err := Values("values-evaluation.yaml")
	require.NoError(t, err)
	c := install(t, values)
	folder := "/etc/daemon-gateway/secrets/"
	want := map[string][]string{
		"edge":   {folder + "nats-url", folder + "gossip-keys", folder + "jwt-secret"},
		"router": {folder + "nats-url", folder + "gossip-keys"},
		"bridge": {folder + "nats-url", folder + "redis-url"},
		"admin":  {folder + "nats-url"},
		"test":   {folder + "jwt-secret", folder + "redis-url"},
	}
	for _, w := range c.workloads() {
		require.ElementsMatch(t, want[w.component()], c.files(w), w.name)
		for _, v := range w.pod.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for _, item := range v.Projected.Sources[0].Secret.Items {
				if item.Path == "nats-url" {
					require.Equal(t, w.component()+"-url", item.Key)
				}
			}
		}
	}
}
