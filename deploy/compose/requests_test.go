package compose_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// streams are those of the gateway, one of each kind, and one of somebody else's.
var streams = []string{
	"DAEMON_EVENTS_0", "DAEMON_DEADLETTERS", "DAEMON_TRACES", "DAEMON_UNRESOLVED", "DAEMON_GATEWAY_RESERVATION",
	"KV_gateway_cluster", "KV_gateway_checkpoints", "KV_daemon_cursors_0", "KV_gateway_revocations", "SOMEBODY_ELSES",
}

// requests are all that the API of JetStream knows, as their subjects; the first
// token that is to be filled in is a stream.
var requests = []string{
	server.JSApiAccountInfo, server.JSApiStreams, server.JSApiStreamList,
	server.JSApiStreamCreateT, server.JSApiStreamUpdateT, server.JSApiStreamInfoT, server.JSApiStreamDeleteT, server.JSApiStreamPurgeT,
	server.JSApiStreamSnapshotT, server.JSApiStreamRestoreT, server.JSApiMsgDeleteT, server.JSApiMsgGetT,
	"$JS.API.DIRECT.GET.%s", "$JS.API.DIRECT.GET.%s.%s",
	server.JSApiStreamRemovePeerT, server.JSApiStreamEvacuatePeerT, server.JSApiStreamCancelMoveT, server.JSApiStreamLeaderStepDownT,
	server.JSApiConsumerCreateT, "$JS.API.CONSUMER.CREATE.%s.%s", server.JSApiConsumerCreateExT, server.JSApiDurableCreateT,
	server.JSApiConsumersT, server.JSApiConsumerListT, server.JSApiConsumerInfoT, server.JSApiConsumerDeleteT,
	server.JSApiConsumerPauseT, server.JSApiConsumerUnpinT, server.JSApiConsumerResetT, server.JSApiRequestNextT,
	server.JSApiConsumerLeaderStepDownT, server.JSApiConsumerRemovePeerT, server.JSApiConsumerEvacuatePeerT,
	server.JSApiLeaderStepDown, server.JSApiRemoveServer, server.JSApiEvacuateServer, server.JSApiMetaRescue, server.JSApiAccountPurgeT,
	server.JSApiServerStreamMoveT, server.JSApiServerStreamCancelMoveT, "$JS.API.SOMETHING.NEW.%s",
}

// permitted says which users may make a request of a stream; backup may make all.
func permitted(request, stream string) []string {
	tiers := []string{"edge", "router", "bridge"}
	switch request {
	case server.JSApiAccountInfo:
		return []string{"admin", "operator"}
	case server.JSApiStreamCreateT, server.JSApiStreamUpdateT:
		return []string{"admin"}
	case server.JSApiStreamInfoT:
		if stream == "KV_gateway_cluster" {
			return append(tiers, "admin", "operator", "backend")
		}
		return append(tiers, "admin", "operator")
	case server.JSApiStreamDeleteT:
		if stream == "DAEMON_GATEWAY_RESERVATION" {
			return []string{"admin"}
		}
	case server.JSApiStreamPurgeT:
		if stream == "DAEMON_UNRESOLVED" {
			return []string{"bridge"}
		}
	case server.JSApiMsgDeleteT:
		if stream == "DAEMON_DEADLETTERS" {
			return []string{"operator"}
		}
	case server.JSApiMsgGetT:
		return append(tiers, "operator")
	case "$JS.API.DIRECT.GET.%s":
		return append(tiers, "admin", "operator")
	case "$JS.API.CONSUMER.CREATE.%s.%s":
		return []string{"router"}
	case server.JSApiConsumerInfoT:
		return []string{"operator"}
	case server.JSApiConsumerDeleteT:
		return []string{"router"}
	case server.JSApiRequestNextT:
		return []string{"router", "operator"}
	}
	return nil
}

// published are subjects beside the API's, with the users who may publish there.
var published = map[string][]string{
	"$JS.API.DIRECT.GET.KV_gateway_cluster.$KV.gateway_cluster.partitions":      {"edge", "router", "bridge", "admin", "backend", "operator"},
	"$JS.API.DIRECT.GET.KV_gateway_cluster.$KV.gateway_cluster.epoch.0":         {"edge", "router", "bridge", "admin", "operator"},
	"$JS.API.DIRECT.GET.KV_gateway_checkpoints.$KV.gateway_checkpoints.0":       {"router", "operator"},
	"$JS.API.DIRECT.GET.KV_daemon_cursors_0.$KV.daemon_cursors_0.clx1":          {"operator"},
	"$JS.API.CONSUMER.CREATE.DAEMON_EVENTS_0.name.daemon.events.0.clx1":         {"operator"},
	"$JS.API.CONSUMER.CREATE.DAEMON_DEADLETTERS.name.daemon.deadletters.a.clx1": {"operator"},
	"$JS.API.CONSUMER.CREATE.KV_daemon_cursors_0.name.$KV.daemon_cursors_0.a":   nil,
	"$KV.gateway_cluster.partitions":                                            {"admin"},
	"$KV.gateway_cluster.partition_bytes":                                       {"admin"},
	"$KV.gateway_cluster.epoch.0":                                               {"edge", "router", "bridge", "admin"},
	"$KV.gateway_checkpoints.0":                                                 {"router"},
	"$JS.API.DIRECT.GET.KV_gateway_revocations.$KV.gateway_revocations.token.a": {"bridge", "operator"},
	"$KV.gateway_revocations.token.a":                                           {"bridge", "operator"},
	"$KV.gateway_revocations.x":                                                 {"bridge", "operator"}, // nothing, but it takes room
	"$KV.daemon_cursors_0.clx1":                                                 {"edge"},
	"daemon.events.0.clx1":                                                      {"router", "bridge", "backend", "operator"},
	"daemon.events.0.=":                                                         {"edge", "router", "bridge", "admin"},
	"daemon.deadletters.not_json.clx1":                                          {"edge", "router", "bridge"},
	"daemon.traces.clx1.e1":                                                     {"edge", "router", "bridge"},
	"daemon.unresolved.clx1":                                                    {"bridge"},
	"daemon.edge.other.deliver":                                                 {"router"},
	"daemon.edge.other.probe":                                                   {"edge"},
	"daemon.edge.other.ack":                                                     {"edge"},
	"daemon.edge.other.cursor":                                                  {"edge"},
	"_INBOX_router.receipts.x.1.1":                                              {"edge"},
	"_INBOX_edge.answers.x":                                                     {"edge"},
	"_INBOX_operator.answers.x.edge":                                            {"edge", "router", "bridge"},
	"daemon.operation.edge.nodes":                                               {"operator"},
	"daemon.operation.router.nodes":                                             {"operator"},
	"daemon.operation.bridge.nodes":                                             {"operator"},
	"$SRV.PING":                                                                 {"operator"},
	"$SRV.INFO.gateway-edge":                                                    {"operator"},
	"daemon.edge.other.other":                                                   nil,
	"daemon.heartbeats.0":                                                       {"edge"},
	"daemon.canary":                                                             {"edge"},
	"daemon.reservation":                                                        nil,
	"$JS.ACK.DAEMON_EVENTS_0.name.1.1.1.1.1":                                    nil,
	"$JS.FC.DAEMON_EVENTS_0.name.x":                                             nil,
	"$JS.SNAPSHOT.ACK.x":                                                        nil,
	"$SYS.REQ.SERVER.PING":                                                      nil,
	"anything":                                                                  nil,
}

// backedUp is what backup may publish, who takes backups and restores them, and with whom
// the nats tool changes what is stored.
var backedUp = regexp.MustCompile(`^(\$JS\.(API|ACK|SNAPSHOT)\.|\$KV\.|daemon\.events\.)`)

// access is all that is tried, with the users who may.
func access() map[string][]string {
	all := maps.Clone(published)
	for _, request := range requests {
		for _, stream := range streams {
			values := []any{stream, "name", "filter"}[:strings.Count(request, "%s")]
			all[fmt.Sprintf(request, values...)] = permitted(request, stream)
		}
	}
	for _, user := range everybody {
		all[inbox(user)+".x"], all["_INBOX.x"] = nil, nil
	}
	for subject := range all {
		if backedUp.MatchString(subject) {
			all[subject] = append(slices.Clone(all[subject]), "backup")
		}
	}
	return all
}

var publishRefused = regexp.MustCompile(`Publish to "([^"]+)"`)

// Regression: edges could make streams, and so delete partitions or forge events,
// and consumers, and so push what is stored into another edge. Each user has been
// asked in the name of each subject before: nobody may answer there for that.
func TestEachUserMayPublishWhatIsMeantAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shipped)
	asker, _ := w.client(unlimited)
	all := access()
	require.Greater(t, len(all), 250)
	for _, user := range everybody {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			js, violations := w.client(user)
			// NATS lets nobody ask in the name of an ack.
			ask(t, asker, js, user, slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(subject string) bool {
				return strings.HasPrefix(subject, "$JS.ACK.")
			})...)
			const last = "the.last" // nobody may
			for subject := range all {
				require.NoError(t, js.Conn().Publish(subject, []byte("{}")))
			}
			require.NoError(t, js.Conn().Publish(last, nil))
			refused := refusedUntil(t, violations, last)
			for subject, users := range all {
				require.Equal(t, !slices.Contains(users, user), refused[subject] > 0, subject)
			}
		})
	}
}

// What operators give their users with nsc is what the file has.
func TestTheCommandsForJWTAccountsGiveThePermissionsOfTheFile(t *testing.T) {
	t.Parallel()
	configured, err := server.ProcessConfigFile(shipped)
	require.NoError(t, err)
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	joined := regexp.MustCompile(` \\\n +`).ReplaceAllString(string(text), " ")
	for _, user := range configured.Users {
		p := user.Permissions
		command := fmt.Sprintf("nsc add user --account GATEWAY --name %s --allow-sub '%s'", user.Username, strings.Join(p.Subscribe.Allow, ","))
		require.Empty(t, p.Subscribe.Deny)
		require.Nil(t, p.Response, "whoever asks itself may publish anywhere with it")
		command += fmt.Sprintf(" --allow-pub '%s'", strings.Join(p.Publish.Allow, ","))
		if len(p.Publish.Deny) > 0 {
			command += fmt.Sprintf(" --deny-pub '%s'", strings.Join(p.Publish.Deny, ","))
		}
		require.Contains(t, joined, command+"\n")
	}
}
