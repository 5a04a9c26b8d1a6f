package presence

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/neolith/daemon-gateway/internal/neolith/postgres"
	"github.com/neolith/daemon-gateway/pkg/event"
)

// statementTimeout is for one load or one batch.
const statementTimeout = 10 * time.Second

// store is presence in PostgreSQL: vps.status, which Neolith reads, and in the
// gateway's own schema whom it shows as connected, or as OFFLINE, at the gateway's
// word, and who may write each partition.
type store struct {
	db   *postgres.DB
	node string
	save string // the statement of write
	// whenGone is the status of who is gone; null: the last one.
	whenGone pgtype.Text
}

func newStore(db *postgres.DB, node string, whenGone WhenGone) *store {
	// The lock on a writer's row keeps the next writer waiting until the batch
	// is in the table, and a writer whose term is over finds no row. Rows that
	// are as they should be are not touched.
	//
	// An OFFLINE of the gateway's own is remembered in its table, so that it can be
	// taken back; any other stays. The update looks at the row itself, which
	// somebody may have disabled since the statement began.
	save := strings.NewReplacer("{vps}", db.Neolith("vps"), "{status}", db.Neolith("VPStatus"), "{schema}", postgres.Schema).Replace(`
		with mine as (
			select w.partition from {schema}.presence_writers w
			join unnest($1::integer[], $2::bigint[]) as held (partition, term) using (partition, term)
			for share of w
		), change as (
			select c.orchestrator_id, c.partition, c.status = 'GONE' as gone,
				case c.status when 'GONE' then $6::text else c.status end as status,
				coalesce(p.status = 'OFFLINE', false) as ours, v.status = 'OFFLINE' as offline
			from unnest($3::text[], $4::text[], $5::integer[]) as c (orchestrator_id, status, partition)
			join mine using (partition)
			left join {vps} v on v.id = c.orchestrator_id
			left join {schema}.presence p on p.orchestrator_id = c.orchestrator_id
		), changed as (
			update {vps} v set status = c.status::{status}, updated_at = now() at time zone 'utc'
			from change c where v.id = c.orchestrator_id and v.status <> c.status::{status} and (v.status <> 'OFFLINE' or c.ours)
			returning v.id
		), shown as (
			insert into {schema}.presence (orchestrator_id, partition, status)
			select orchestrator_id, partition, status from change
			where not gone and offline is not null or gone and status = 'OFFLINE' and not offline
			on conflict (orchestrator_id) do update set status = excluded.status, partition = excluded.partition, written_at = now()
		), gone as (
			delete from {schema}.presence p using change c
			where p.orchestrator_id = c.orchestrator_id and c.gone
				and (c.status = 'AWAY' or not c.ours and (c.status is null or coalesce(c.offline, true)))
		)
		select array(select partition from mine), (select count(*) from changed)`)
	s := &store{db: db, node: node, save: save}
	if whenGone != WhenGoneKeep {
		s.whenGone = pgtype.Text{String: string(whenGone), Valid: true}
	}
	return s
}

// load makes this node the writer of a partition. It returns the term that its
// writes have to name, and who is shown as connected.
func (s *store) load(ctx context.Context, p event.Partition) (Term, map[event.Token]Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var term Term
	shown := make(map[event.Token]Status)
	err := pgx.BeginFunc(ctx, s.db.Pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `insert into `+postgres.Schema+`.presence_writers as w (partition, term, node) values ($1, 1, $2)
			on conflict (partition) do update set term = w.term + 1, node = excluded.node, since = now() returning term`,
			int32(p), s.node).Scan(&term)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select orchestrator_id, status from `+postgres.Schema+`.presence where partition = $1 and status <> 'OFFLINE'`, int32(p))
		if err != nil {
			return err
		}
		var id, status string
		_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error {
			shown[event.TokenOf(id)] = Status(status)
			return nil
		})
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("load presence of partition %d: %w", p, err)
	}
	return term, shown, nil
}

// differing returns the orchestrators of partitions that are shown with another
// status than was written. An OFFLINE of Neolith's is left alone.
func (s *store) differing(ctx context.Context, partitions []event.Partition) ([]event.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := s.db.Pool.Query(ctx, `select p.orchestrator_id from `+postgres.Schema+`.presence p join `+s.db.Neolith("vps")+` v on v.id = p.orchestrator_id
		where p.partition = any($1) and p.status <> 'OFFLINE' and v.status <> 'OFFLINE' and v.status::text <> p.status`, numbers(partitions))
	if err != nil {
		return nil, fmt.Errorf("compare presence with what is shown: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("compare presence with what is shown: %w", err)
	}
	tokens := make([]event.Token, len(ids))
	for i, id := range ids {
		tokens[i] = event.TokenOf(id)
	}
	return tokens, nil
}

// disown forgets of which orchestrators of partitions the OFFLINE was the gateway's
// where somebody has enabled them since: the next OFFLINE is Neolith's.
func (s *store) disown(ctx context.Context, partitions []event.Partition) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	_, err := s.db.Pool.Exec(ctx, `delete from `+postgres.Schema+`.presence p using `+s.db.Neolith("vps")+` v
		where v.id = p.orchestrator_id and p.partition = any($1) and p.status = 'OFFLINE' and v.status <> 'OFFLINE'`, numbers(partitions))
	if err != nil {
		return fmt.Errorf("forget who was shown as OFFLINE: %w", err)
	}
	return nil
}

func numbers(partitions []event.Partition) []int32 {
	numbers := make([]int32, len(partitions))
	for i, p := range partitions {
		numbers[i] = int32(p)
	}
	return numbers
}

// write stores a batch of at most one change for each orchestrator. It returns
// how many rows of vps it has changed, and the partitions among those of the
// batch that this node may write no longer, of which nothing was stored.
func (s *store) write(ctx context.Context, batch []Change) (changed int, lost []event.Partition, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	held := make(map[event.Partition]Term)
	var ids, statuses []string
	var partitions []int32
	for _, c := range batch {
		id, err := c.Orchestrator.ID()
		if err != nil {
			return 0, nil, fmt.Errorf("write presence: %w", err)
		}
		held[c.Partition] = c.Term
		if strings.ContainsRune(id, 0) {
			continue // no row has such an id, and PostgreSQL would refuse all others with it
		}
		ids, statuses, partitions = append(ids, id), append(statuses, string(c.Status)), append(partitions, int32(c.Partition))
	}
	var heldPartitions []int32
	var terms []int64
	for p, term := range held {
		heldPartitions, terms = append(heldPartitions, int32(p)), append(terms, int64(term))
	}
	var mine []int32
	err = s.db.Pool.QueryRow(ctx, s.save, heldPartitions, terms, ids, statuses, partitions, s.whenGone).Scan(&mine, &changed)
	if err != nil {
		return 0, nil, fmt.Errorf("write presence of %d orchestrators: %w", len(batch), err)
	}
	for p := range held {
		if !slices.Contains(mine, int32(p)) {
			lost = append(lost, p)
		}
	}
	return changed, lost, nil
}
