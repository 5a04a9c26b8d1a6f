package check

import (
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

const inBucket = `
  s3: {url: https://s3.eu-central-1.amazonaws.com/backups/gateway, region: eu-central-1, existingSecret: backup-s3}
  recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
  signing: {existingSecret: backup-signing}
  volume: {size: 5Gi}
`

func TestBackupsGoToAVolumeThatOutlivesTheRelease(t *testing.T) {
	t.Parallel()
	c := evaluated(t, "backup: {schedule: '17 3 * * *', timeZone: Europe/Berlin, keep: 14, volume: {size: 1536Gi, className: slow}}")
	job := all[batchv1.CronJob](c)["gateway-daemon-gateway-backup"]
	require.Equal(t, "17 3 * * *", job.Spec.Schedule)
	require.Equal(t, "Europe/Berlin", *job.Spec.TimeZone)
	require.Equal(t, batchv1.ForbidConcurrent, job.Spec.ConcurrencyPolicy)
	w := c.byComponent()["backup"]
	_, settings := c.environment(w.container())
	require.Equal(t, "14", settings["BACKUP_KEEP"])
	require.Equal(t, "_INBOX_backup", settings["NATS_INBOX_PREFIX"])
	require.Equal(t, "backup-url", w.pod.Spec.Volumes[1].Projected.Sources[0].Secret.Items[0].Key, "nobody else may take snapshots")
	claim := all[corev1.PersistentVolumeClaim](c)["gateway-daemon-gateway-backup"]
	require.Equal(t, "keep", claim.Annotations["helm.sh/resource-policy"])
	require.Equal(t, "1536Gi", claim.Spec.Resources.Requests.Storage().String())
	require.Equal(t, "slow", *claim.Spec.StorageClassName)
	own := evaluated(t, "backup: {volume: {existingClaim: mine}}")
	require.Empty(t, all[corev1.PersistentVolumeClaim](own))
	require.Equal(t, "mine", own.byComponent()["backup"].pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
}

func TestBackupsGoToAnObjectStore(t *testing.T) {
	t.Parallel()
	c := evaluated(t, "{backup: {"+`s3: {url: "https://s3.eu-central-1.amazonaws.com/backups/gateway", existingSecret: backup-s3}}, networkPolicy: {s3Ports: [443, 9000]}}`)
	w := c.byComponent()["backup"]
	_, settings := c.environment(w.container())
	require.Equal(t, "https://s3.eu-central-1.amazonaws.com/backups/gateway", settings["BACKUP_S3_URL"])
	require.Contains(t, c.files(w), settings["BACKUP_S3_SECRET_ACCESS_KEY_FILE"])
	require.NotNil(t, w.pod.Spec.Volumes[0].EmptyDir)
	require.Empty(t, all[corev1.PersistentVolumeClaim](c))
	for _, port := range []int32{443, 9000} {
		require.True(t, c.reaches(w, "", port, corev1.ProtocolTCP, outside))
		require.False(t, c.reaches(c.byComponent()["toolbox"], "", port, corev1.ProtocolTCP, outside))
	}
	role := evaluated(t, "backup: {s3: {url: 'https://s3.eu-central-1.amazonaws.com/backups'}, serviceAccount: {annotations: {eks.amazonaws.com/role-arn: arn}}}")
	_, settings = role.environment(role.byComponent()["backup"].container())
	require.NotContains(t, settings, "BACKUP_S3_ACCESS_KEY_ID_FILE")
	require.Equal(t, "arn", all[corev1.ServiceAccount](role)["gateway-daemon-gateway-backup"].Annotations["eks.amazonaws.com/role-arn"])
}

// The Job that restores has everything that the one that backs up has, so nothing
// has to be found out on the day of the disaster. The programs themselves read
// what both are given.
func TestTheJobThatRestoresReadsWhatTheOtherHasWritten(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"volume": "backup: {restore: {enabled: true}}",
		"bucket": "backup:" + inBucket + "  restore: {enabled: true, backup: 20261123T042759Z, replace: true, streamReplicas: 1, identitySecret: backup-identity}",
	} {
		c := evaluated(t, change)
		found := map[string]workload{}
		for _, w := range c.workloads() {
			found[w.name] = w
		}
		taken, restored := found["gateway-daemon-gateway-backup"], found["gateway-daemon-gateway-restore"]
		require.Equal(t, taken.pod.Spec.Volumes, restored.pod.Spec.Volumes, name)
		_, from := c.environment(taken.container())
		_, to := c.environment(restored.container())
		for _, setting := range []string{"NATS_URL_FILE", "BACKUP_DIR", "BACKUP_S3_URL", "BACKUP_S3_REGION", "BACKUP_S3_ACCESS_KEY_ID_FILE"} {
			require.Equal(t, from[setting], to[setting], "%s: %s", name, setting)
		}
		for _, w := range []workload{taken, restored} {
			output, err := c.programOf(w).command(t.Context(), "--print-config").CombinedOutput()
			require.NoError(t, err, "%s: %s: %s", name, w.name, output)
		}
		if name == "bucket" {
			require.Equal(t, "20261123T042759Z true 1", to["BACKUP"]+" "+to["REPLACE"]+" "+to["STREAM_REPLICAS"])
		}
	}
}

func TestTheToolboxIsTheOperatorAndNothingElse(t *testing.T) {
	t.Parallel()
	c := evaluated(t, "{}")
	w := c.byComponent()["toolbox"]
	require.Equal(t, []string{"/gatewayctl", "idle"}, w.container().Command)
	require.Equal(t, []string{"/etc/daemon-gateway/secrets/nats-url"}, c.files(w))
	require.Equal(t, "operator-url", w.pod.Spec.Volumes[0].Projected.Sources[0].Secret.Items[0].Key)
	nats := c.byComponent()["nats"]
	require.True(t, c.accepts(nats, "client", corev1.ProtocolTCP, peer{pod: labelsOf(w)}))
	require.NotContains(t, exampleWith(t, "evaluation", "{}").byComponent(), "toolbox", "whoever may exec in it may act on the gateway")
}
