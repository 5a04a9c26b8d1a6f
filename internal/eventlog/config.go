package eventlog

import (
	"time"

	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says how the log is laid out. All nodes of a cluster should agree on
// it; on Partitions they must.
type Config struct {
	Partitions            int               `default:"16" min:"1" max:"1024" group:"Event log" help:"Streams over which orchestrators are spread. Fixed when the cluster is created; a node with another number refuses to start."`
	StreamReplicas        int               `default:"1" min:"1" max:"5" group:"Event log" help:"NATS servers that hold a copy of each stream (log, cursors, dead letters); 3 survives the loss of one."`
	EventRetention        time.Duration     `default:"168h" min:"1s" group:"Event log" help:"How long an event waits for its daemons."`
	EventsPerOrchestrator int64             `default:"1000" min:"1" group:"Event log" help:"Newest events kept for each orchestrator, acknowledged or not."`
	MaxEventBytes         settings.ByteSize `default:"256KiB" min:"1KiB" group:"Event log" help:"Largest event, as published; larger ones go to the dead letters."`
	LogMaxBytes           settings.ByteSize `default:"10GiB" min:"1MiB" group:"Event log" help:"Disk that one partition may use on each server that holds it; a full partition refuses events. NATS reserves it for each partition, for the dead letters and, with DATABASE_URL, for events that wait for their addressee; where that does not fit, all partitions are smaller."`
	CursorPercent         int               `default:"5" min:"1" max:"1000" group:"Event log" help:"Disk that the cursors of one partition may use, in percent of what the partition may, but at least 16 MiB; NATS reserves it. Where cursors find no room they are not stored, and daemons are sent events again."`
	DuplicateWindow       time.Duration     `default:"2m" min:"100ms" group:"Event log" help:"For how long an event published again is recognized; each event costs memory in NATS for that long."`
	DeadletterRetention   time.Duration     `default:"720h" min:"1s" group:"Event log" help:"How long dead letters are kept."`
}

// Validate reports settings that contradict each other.
func (c Config) Validate(report func(setting, problem string)) {
	if c.DuplicateWindow > c.EventRetention {
		report("DUPLICATE_WINDOW", "expected at most EVENT_RETENTION")
	}
	if c.LogMaxBytes < 4*c.MaxEventBytes {
		report("LOG_MAX_BYTES", "expected at least four times MAX_EVENT_BYTES")
	}
}

// minBucketBytes is the size of buckets that hold some KiB, and the least of those
// with cursors.
const minBucketBytes = 16 << 20

// revocationBytes is room for as many revocations as an edge remembers.
const revocationBytes = 64 << 20

// traceBytes is room for some 200,000 records.
const traceBytes = 128 << 20

// cursorBytes is the size of the cursors of a partition of that size.
func (c Config) cursorBytes(partition int64) int64 {
	return max(minBucketBytes, partition/100*int64(c.CursorPercent))
}

// reservedBytes is what NATS reserves where partitions have that size: for them,
// the dead letters, which have as much as a partition, the traces and the buckets.
func (c Config) reservedBytes(partition int64) int64 {
	if partition == 0 {
		return 0
	}
	return partition*(int64(c.Partitions)+1) + c.cursorBytes(partition)*int64(c.Partitions) + minBucketBytes + revocationBytes + traceBytes
}

// Upkeep says who makes and changes the streams and buckets.
type Upkeep struct {
	ManageStreams bool `default:"true" group:"Event log" help:"Create streams and buckets that are missing and, on routers, change those that have other settings. With false only gateway-admin does that, as a NATS user of its own, and nodes wait for what is missing."`
}

// Options are what a node tells Open that would otherwise tell it own.
func (u Upkeep) Options(own ...Option) []Option {
	if u.ManageStreams {
		return own
	}
	return append(own, Unmanaged()) // the last one to say something holds
}
