-- The tables of Neolith that the gateway may read, as its migrations make them.
create type "VPStatus" as enum ('ONLINE', 'OFFLINE', 'BUSY', 'AWAY');

create table organizations (
  id   text primary key,
  name text not null,
  slug text not null unique
);

create table users (
  id     text primary key,
  name   text,
  email  text not null unique,
  status text not null default 'OFFLINE',
  is_vp  boolean not null default false
);

create table vps (
  id              text primary key,
  discipline      text not null,
  role            text not null,
  capabilities    jsonb not null default '{}',
  status          "VPStatus" not null default 'OFFLINE',
  user_id         text not null unique references users (id),
  organization_id text not null references organizations (id),
  workspace_id    text,
  created_at      timestamp(3) not null default current_timestamp,
  updated_at      timestamp(3) not null default current_timestamp
);
