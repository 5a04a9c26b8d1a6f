package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// Drift is a setting of a stream that is not what the configuration makes of it.
type Drift struct {
	Stream  string `json:"stream"`
	Setting string `json:"setting"`
	Have    string `json:"have"`
	Want    string `json:"want"`
	// Mended: whoever manages streams puts it right when it starts.
	Mended bool `json:"mended"`
}

// mended are the settings that package jet changes to what is configured.
var mended = []string{"max_msgs_per_subject", "max_bytes", "max_age", "duplicate_window", "num_replicas", "discard", "allow_direct", "deny_delete"}

// Held is a stream of the gateway as it is.
type Held struct {
	Info *jetstream.StreamInfo
	// Drifts are its settings that are not as configured.
	Drifts []Drift
}

// Inspect looks at all streams and buckets, for a program that works beside the
// nodes and changes nothing. What is missing is a Drift of a Held without Info.
func Inspect(ctx context.Context, js jetstream.JetStream, cfg Config) ([]Held, error) {
	bytes, err := decidedBytes(ctx, js)
	if err != nil {
		return nil, err
	}
	if bytes != 0 { // halved until all partitions fit
		cfg.LogMaxBytes = settings.ByteSize(bytes)
	}
	wanted := append(cfg.buckets(), cfg.deadletters())
	for p := range event.Partition(cfg.Partitions) {
		wanted = append(wanted, cfg.partitionStream(p))
	}
	var all []Held
	for _, want := range wanted {
		stream, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			all = append(all, Held{Drifts: []Drift{{want.Name, "stream", "missing", "there", true}}})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at stream %s: %w", want.Name, err)
		}
		info := stream.CachedInfo()
		all = append(all, Held{info, drifts(info.Config, want)})
	}
	return all, nil
}

// decidedBytes returns how large partitions are, 0 if nobody has decided.
func decidedBytes(ctx context.Context, js jetstream.JetStream) (int64, error) {
	cluster, err := openBucket(ctx, js, ClusterBucket)
	if err != nil {
		return 0, err
	}
	entry, err := cluster.Get(ctx, partitionBytesKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the size of the partitions: %w", err)
	}
	return strconv.ParseInt(string(entry.Value()), 10, 64)
}

// limit is one as NATS tells it: -1 where there is none.
func limit(configured int64) int64 {
	if configured <= 0 {
		return -1
	}
	return configured
}

// drifts compares what matters. Of buckets the size may be more than is wanted,
// where they held more when it was set.
func drifts(have, want jetstream.StreamConfig) []Drift {
	bucket := strings.HasPrefix(want.Name, BucketStream(""))
	var found []Drift
	differ := func(setting string, differs bool, has, wants any) {
		if differs {
			found = append(found, Drift{want.Name, setting, fmt.Sprint(has), fmt.Sprint(wants), slices.Contains(mended, setting)})
		}
	}
	differ("max_msgs_per_subject", limit(have.MaxMsgsPerSubject) != limit(want.MaxMsgsPerSubject), have.MaxMsgsPerSubject,
		limit(want.MaxMsgsPerSubject))
	differ("max_msgs", limit(have.MaxMsgs) != limit(want.MaxMsgs), have.MaxMsgs, limit(want.MaxMsgs))
	differ("max_msg_size", limit(int64(have.MaxMsgSize)) != limit(int64(want.MaxMsgSize)), have.MaxMsgSize, limit(int64(want.MaxMsgSize)))
	differ("max_bytes", have.MaxBytes != want.MaxBytes && !(bucket && have.MaxBytes > want.MaxBytes), have.MaxBytes, want.MaxBytes)
	differ("max_age", have.MaxAge != want.MaxAge, have.MaxAge, want.MaxAge)
	differ("duplicate_window", have.Duplicates != want.Duplicates, have.Duplicates, want.Duplicates)
	differ("num_replicas", have.Replicas != want.Replicas, have.Replicas, want.Replicas)
	differ("discard", have.Discard != want.Discard, have.Discard, want.Discard)
	differ("retention", have.Retention != want.Retention, have.Retention, want.Retention)
	differ("storage", have.Storage != want.Storage, have.Storage, want.Storage)
	differ("allow_direct", have.AllowDirect != want.AllowDirect, have.AllowDirect, want.AllowDirect)
	differ("deny_delete", have.DenyDelete != want.DenyDelete, have.DenyDelete, want.DenyDelete)
	differ("subjects", !slices.Equal(have.Subjects, want.Subjects), have.Subjects, want.Subjects)
	return found
}
