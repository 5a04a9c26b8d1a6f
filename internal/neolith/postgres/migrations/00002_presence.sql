-- +goose Up

-- Who may write the presence of a partition's orchestrators. The term rises
-- with each new writer; a write names it, and shares a lock on the row, so that
-- what an earlier writer began is done before the next one reads, and what it
-- begins later changes nothing.
create table daemon_gateway.presence_writers (
  partition  integer      primary key,
  term       bigint       not null,
  node       text         not null,
  since      timestamptz  not null default now()
);

-- The orchestrators that vps.status shows as connected, or as OFFLINE, because the
-- gateway wrote so; no row: neither. The next writer starts from here.
create table daemon_gateway.presence (
  orchestrator_id  text         collate "C" primary key,
  partition        integer      not null,
  status           text         not null,
  written_at       timestamptz  not null default now()
)
with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

create index presence_of_partition on daemon_gateway.presence (partition);
