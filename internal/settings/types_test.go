package settings

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestByteSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ByteSize{"0": 0, "262144": 256 * KiB, "256KiB": 256 * KiB, "10GiB": 10 * GiB, "1 MiB": MiB, "2TiB": 2 * TiB, "12B": 12} {
		var got ByteSize
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got, text)
		var again ByteSize
		require.NoError(t, again.UnmarshalText([]byte(got.String())))
		require.Equal(t, got, again)
	}
	for _, text := range []string{"", "-1", "1.5MiB", "10MB", "KiB", "9999999TiB", "9223372036854775808"} {
		var got ByteSize
		require.Error(t, got.UnmarshalText([]byte(text)), text)
	}
}

func TestMilliseconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"30000": 30 * time.Second, "30s": 30 * time.Second, "1h": time.Hour, "0": 0, "1500us": 1500 * time.Microsecond} {
		var got Milliseconds
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got.Duration(), text)
	}
	for _, text := range []string{"", "soon", "30 s", "9223372036854775807"} {
		var got Milliseconds
		require.Error(t, got.UnmarshalText([]byte(text)), text)
	}
	require.Equal(t, "168h", Milliseconds(168*time.Hour).String())
	require.Equal(t, "1h5m", Milliseconds(65*time.Minute).String())
	require.Equal(t, "1m30s", Milliseconds(90*time.Second).String())
	require.Equal(t, "0s", Milliseconds(0).String())
	require.Equal(t, "10s", Milliseconds(10*time.Second).String())
	require.Equal(t, "20m", Milliseconds(20*time.Minute).String())
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	holder := struct {
		S Secret
		L []Secret
		U URL
	}{"hunter2", []Secret{"hunter2"}, "postgres://u:hunter2@h/db?password=hunter2"}
	encoded, err := json.Marshal(holder)
	require.NoError(t, err)
	shown := fmt.Sprintf("%v %+v %#v %s %q", holder, holder, holder, holder.S, holder.U) + string(encoded)
	require.NotContains(t, shown, "hunter2")
	require.Contains(t, shown, "***")
	require.Empty(t, Secret("").String())
}

// Reports: nextcloud/whiteboard#1316, warmbly/warmbly#454.
func TestURLShowsTheServerOnly(t *testing.T) {
	t.Parallel()
	for given, want := range map[URL]string{
		"":                                   "",
		"redis://host:6379/0":                "redis://host:6379/0",
		"rediss://:hunter2@host:6379":        "rediss://***@host:6379",
		"nats://token@host":                  "nats://***@host",
		"postgres://h/db?sslpassword=s":      "postgres://h/db?***",
		"host=h password=hunter2":            "***",
		"redis://user:p%ss@host":             "***",
		"nats://u:hunter2/with-slash@h:4222": "***",
		"nats://u:12/hunter2@h:4222":         "***",
		"postgres://u:12?hunter2@h/db":       "***",
		"nats://u:a@h,nats://u:hunter2@h":    "***",
		"https://h/keys%40hunter2":           "***",
	} {
		require.Equal(t, want, given.String())
	}
}
