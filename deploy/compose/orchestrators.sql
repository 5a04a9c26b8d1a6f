-- Rows that Neolith would have: the orchestrator that "docker compose run --rm probe" is a daemon of. Others are added alike, with another
-- id and user; OFFLINE, the column's default, would mean that Neolith has disabled it.
insert into organizations (id, name, slug) values ('demo', 'Demo', 'demo');
insert into users (id, email, is_vp) values ('gateway-probe-user', 'gateway-probe@example.com', true);
insert into vps (id, discipline, role, status, user_id, organization_id)
values ('gateway-probe', 'engineering', 'developer', 'AWAY', 'gateway-probe-user', 'demo');
