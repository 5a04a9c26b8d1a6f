-- +goose Up

-- When each edge that records sessions was there last. What one that has crashed
-- left open is ended as of then.
create table daemon_gateway.edges (
  edge        text         primary key,        -- name of the node
  started_at  timestamptz  not null,           -- by the edge's clock, as seen_at
  seen_at     timestamptz  not null
);

-- Work that one node at a time does, in small steps: when and by whom the last
-- step was done.
create table daemon_gateway.upkeep (
  task     text         primary key,
  done_at  timestamptz  not null,
  node     text         not null
);

insert into daemon_gateway.upkeep (task, done_at, node) values ('history', '-infinity', '');

-- For people: where orchestrator_id = '...' order by connected_at desc limit 20.
create view daemon_gateway.session_overview as
select
  s.orchestrator_id, s.daemon_id,
  case
    when s.ended_at is not null then 'ended'
    when e.seen_at > now() - interval '2 minutes' then 'open'
    else 'unknown'                             -- its edge has not been heard of since
  end as state,
  s.connected_at, s.ended_at,
  date_trunc('second', coalesce(s.ended_at, now()) - s.connected_at) as lasted,
  s.close_code, s.close_reason, s.remote_address, s.edge,
  s.sent, s.acked, s.redelivered, s.session_id, s.authenticated_at, s.subscribed_at
from daemon_gateway.sessions s
left join daemon_gateway.edges e on e.edge = s.edge;
