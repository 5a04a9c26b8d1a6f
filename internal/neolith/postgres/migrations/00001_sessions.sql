-- +goose Up

-- One row for each WebSocket session: written when it has begun, and again, as a
-- whole, when it has ended. Writers COPY a batch into a temporary table and
-- merge it from there by session_id: a batch whose outcome got lost may be
-- written again, a session that ended before its first write is one row, and one
-- whose row retention has removed meanwhile gets it back.
--
-- Not partitioned by time: a session is found by its id alone, dropping a
-- partition locks the whole table where deleting some rows does not, and nobody
-- has to make tomorrow's partition.
create table daemon_gateway.sessions (
  session_id       uuid        primary key,
  orchestrator_id  text        collate "C" not null,
  daemon_id        text        not null,
  edge             text        not null,                  -- name of the node
  remote_address   inet,                                  -- of the daemon, behind trusted proxies
  connected_at     timestamptz not null,                  -- by the edge's clock, as all times here
  authenticated_at timestamptz,
  subscribed_at    timestamptz,                           -- first subscribe
  ended_at         timestamptz,                           -- null: open, or its edge has crashed
  close_code       integer,                               -- of the WebSocket
  close_reason     text,
  sent             bigint      not null default 0,        -- events
  acked            bigint      not null default 0,
  redelivered      bigint      not null default 0         -- of those sent
)
-- Each row is written twice: dead ones go before they are a fifth of the table.
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- The last sessions of an orchestrator.
create index sessions_of_orchestrator on daemon_gateway.sessions (orchestrator_id, connected_at desc);

-- Retention, which deletes the oldest some at a time. Not BRIN: rows written
-- into the room of deleted ones would soon make every range of pages span all of
-- time. The order of insertion keeps this one small and its writes at one end.
create index sessions_by_time on daemon_gateway.sessions (connected_at);

-- What an edge that has crashed left open: few rows, so small, and worth that the
-- second write of a row touches the indexes.
create index sessions_open on daemon_gateway.sessions (edge) where ended_at is null;
