package identity_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/neolith/daemon-gateway/internal/lab/testserver"
	"github.com/neolith/daemon-gateway/internal/neolith/identity"
	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/internal/settings"
	"github.com/neolith/daemon-gateway/pkg/protocol"
)

func TestMain(m *testing.M) { testserver.Main(m) }

const waitTime = testserver.Patience

type resolver struct {
	*identity.Resolver
	reg *prometheus.Registry
}

// start returns a resolver that runs for as long as the test, with identities
// that are believed for ttl. It waits for PostgreSQL for as long, too.
func start(t testing.TB, url string, ttl time.Duration) resolver {
	t.Helper()
	return startWaiting(t, url, ttl, waitTime)
}

// startWaiting is start with a time for PostgreSQL to answer; 0: the usual one.
func startWaiting(t testing.TB, url string, ttl, timeout time.Duration) resolver {
	t.Helper()
	discard, reg := slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry()
	dbConfig := settings.Default[postgres.Config]()
	dbConfig.DatabaseURL = settings.URL(url)
	db, err := postgres.Open(dbConfig, "test", discard, reg)
	require.NoError(t, err)
	cfg := settings.Default[identity.Config]()
	cfg.IdentityCacheTTL, cfg.QueryTimeout = ttl, timeout
	r, err := identity.New(cfg, db, discard, reg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		_, err := r.Resolve(context.Background(), "whom nobody has asked for yet")
		require.ErrorIs(t, err, identity.ErrUnavailable)
		closing, stop := context.WithTimeout(context.Background(), waitTime)
		defer stop()
		require.NoError(t, db.Close(closing))
	})
	return resolver{Resolver: r, reg: reg}
}

const (
	always = time.Hour
	never  = time.Nanosecond
)

// asked returns how many queries there were, and for how many ids in all.
func (r resolver) asked(t *testing.T) (queries, ids int) {
	t.Helper()
	families, err := r.reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "gateway_identity_batch_size" {
			sizes := family.GetMetric()[0].GetHistogram()
			return int(sizes.GetSampleCount()), int(sizes.GetSampleSum())
		}
	}
	require.Fail(t, "no metric of the batches")
	return 0, 0
}

// lookups returns how many lookups had this result.
func (r resolver) lookups(t *testing.T, result string) int {
	t.Helper()
	families, err := r.reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "gateway_identity_lookups_total" && m.GetLabel()[0].GetValue() == result {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	require.Fail(t, "no such result", result)
	return 0
}

func neolith(t testing.TB, db *testserver.Database) {
	t.Helper()
	db.NeolithTables(t)
	db.AddOrchestrators(t, testserver.Orchestrator{ID: "vp", User: "user", Organization: "acme"})
}

var vp = identity.Identity{Orchestrator: "vp", User: "user", Organization: "acme"}

func TestAnOrchestratorIsFoundByItsIDAndByItsUserID(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	neolith(t, db)
	r := start(t, db.URL(), always)
	for _, id := range []protocol.OrchestratorID{"vp", "user"} {
		_, ok := r.Cached(id)
		require.False(t, ok)
		got, err := r.Resolve(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, vp, got)
		got, ok = r.Cached(id)
		require.True(t, ok)
		require.Equal(t, vp, got)
	}
	problems, err := testutil.GatherAndLint(r.reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestAnIDWinsOverTheSameUserID(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	neolith(t, db)
	db.AddOrchestrators(t, testserver.Orchestrator{ID: "other", User: "vp"}, testserver.Orchestrator{ID: "user", User: "somebody"})
	r := start(t, db.URL(), never)
	for range 3 {
		answers := r.ResolveMany(t.Context(), []protocol.OrchestratorID{"vp", "user", "other", "somebody"})
		require.Equal(t, protocol.OrchestratorID("vp"), answers["vp"].Identity.Orchestrator)
		require.Equal(t, protocol.OrchestratorID("user"), answers["user"].Identity.Orchestrator)
		require.Equal(t, protocol.OrchestratorID("other"), answers["other"].Identity.Orchestrator)
		require.Equal(t, protocol.OrchestratorID("user"), answers["somebody"].Identity.Orchestrator)
	}
}

func TestANewOrchestratorIsKnownSoonAfterItWasUnknown(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	neolith(t, db)
	r := start(t, db.URL(), always)
	asked := time.Now()
	_, err := r.Resolve(t.Context(), "new")
	require.ErrorIs(t, err, identity.ErrUnknown)
	_, err = r.Resolve(t.Context(), "new")
	require.ErrorIs(t, err, identity.ErrUnknown)
	if queries, _ := r.asked(t); time.Since(asked) < time.Second { // else the moment may be over
		require.Equal(t, 1, queries, "that it is unknown is remembered for a moment")
	}
	db.AddOrchestrators(t, testserver.Orchestrator{ID: "new", User: "new user"})
	require.Eventually(t, func() bool {
		_, err := r.Resolve(t.Context(), "new")
		return err == nil
	}, waitTime, 20*time.Millisecond)
}

func TestADeletedOrchestratorIsUnknownWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	neolith(t, db)
	r := start(t, db.URL(), never)
	_, err := r.Resolve(t.Context(), "vp")
	require.NoError(t, err)
	db.Execute(t, "delete from vps")
	_, err = r.Resolve(t.Context(), "vp")
	require.ErrorIs(t, err, identity.ErrUnknown)
}

// Reports: JSONbored/loopover#6728, apache/devlake#3564.
func TestManyIDsAreOneQueryAndWhatIsImpossibleSpoilsNone(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	neolith(t, db)
	r := start(t, db.URL(), always)
	ids := []protocol.OrchestratorID{"vp", "user", "vp", "nobody", "", "nul\x00", "\xff"}
	answers := r.ResolveMany(t.Context(), ids)
	require.Len(t, answers, 6)
	for id, answer := range answers {
		if id == "vp" || id == "user" {
			require.Equal(t, identity.Answer{Identity: vp}, answer)
		} else {
			require.ErrorIs(t, answer.Err, identity.ErrUnknown, "%q", id)
		}
	}
	queries, asked := r.asked(t)
	require.Equal(t, 1, queries)
	require.Equal(t, 3, asked)
}

func TestThousandsOfLookupsAtOnceAskForEachIDOnce(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	db.NeolithTables(t)
	const orchestrators, askers = 3000, 4
	ids := populate(t, db, orchestrators)
	r := start(t, db.URL(), always)
	group, ctx := errgroup.WithContext(t.Context())
	for range askers {
		for _, id := range ids {
			group.Go(func() error {
				got, err := r.Resolve(ctx, id)
				if err == nil && got.Orchestrator != id {
					err = fmt.Errorf("%s resolves to %s", id, got.Orchestrator)
				}
				return err
			})
		}
	}
	require.NoError(t, group.Wait())
	queries, asked := r.asked(t)
	require.Equal(t, orchestrators, asked)
	require.Less(t, queries, orchestrators, "some are asked for together, however slowly they come")
	require.Equal(t, orchestrators*askers, r.lookups(t, "hit")+r.lookups(t, "found"))
}

// populate adds orchestrators and returns their ids.
func populate(t testing.TB, db *testserver.Database, n int) []protocol.OrchestratorID {
	t.Helper()
	var ids []protocol.OrchestratorID
	var all []testserver.Orchestrator
	for i := range n {
		id := fmt.Sprintf("clx%022d", i)
		ids = append(ids, protocol.OrchestratorID(id))
		all = append(all, testserver.Orchestrator{ID: id, User: "cly" + id[3:]})
	}
	db.AddOrchestrators(t, all...)
	db.Execute(t, "analyze vps")
	return ids
}

func TestWhilePostgresCannotBeAskedOldAnswersAreGoodEnough(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		begin, end func(*testserver.PostgresServer)
	}{
		"it is away": {(*testserver.PostgresServer).Stop, (*testserver.PostgresServer).Start},
		"it hangs":   {(*testserver.PostgresServer).Pause, (*testserver.PostgresServer).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.OwnPostgres(t)
			neolith(t, server.Database)
			r := startWaiting(t, server.URL(), never, 0)
			_, err := r.Resolve(t.Context(), "vp")
			require.NoError(t, err)
			_, err = r.Resolve(t.Context(), "nobody")
			require.ErrorIs(t, err, identity.ErrUnknown)

			fault.begin(server)
			before, _ := r.asked(t)
			const lookups = 300
			for range lookups {
				answers := r.ResolveMany(t.Context(), []protocol.OrchestratorID{"vp", "user"})
				require.Equal(t, identity.Answer{Identity: vp}, answers["vp"])
				require.ErrorIs(t, answers["user"].Err, identity.ErrUnavailable)
				require.NotErrorIs(t, answers["user"].Err, identity.ErrUnknown)
			}
			require.Equal(t, lookups, r.lookups(t, "stale"))
			require.Equal(t, lookups, r.lookups(t, "unavailable"))
			after, _ := r.asked(t)
			require.Less(t, after-before, lookups/3, "hardly any lookup waits for PostgreSQL")

			fault.end(server)
			require.Eventually(t, func() bool {
				got, err := r.Resolve(t.Context(), "user")
				return err == nil && got == vp
			}, waitTime, 20*time.Millisecond)
		})
	}
}

func TestALookupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := testserver.OwnPostgres(t)
	neolith(t, server.Database)
	r := start(t, server.URL(), always)
	server.Pause()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Resolve(ctx, "vp")
	require.ErrorIs(t, err, identity.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
}

// Not knowing where the table is says nothing about who is in it.
func TestWithoutTheTableNobodyIsUnknown(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	r := start(t, db.URL(), always)
	_, err := r.Resolve(t.Context(), "vp")
	require.ErrorIs(t, err, identity.ErrUnavailable)
	neolith(t, db)
	require.Eventually(t, func() bool {
		_, err := r.Resolve(t.Context(), "vp")
		return err == nil
	}, waitTime, 20*time.Millisecond)
}

func TestNeolithsTablesMayBeInAnotherSchema(t *testing.T) {
	t.Parallel()
	db := testserver.Postgres(t)
	neolith(t, db)
	db.Execute(t, `create schema app; alter table vps set schema app`)
	r := start(t, db.URL()+"&schema=app", always)
	got, err := r.Resolve(t.Context(), "user")
	require.NoError(t, err)
	require.Equal(t, vp, got)
}
