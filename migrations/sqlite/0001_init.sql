-- +goose Up
-- Times are microseconds since 1970 in UTC; JSON is text.
CREATE TABLE workers (
    id           text PRIMARY KEY,
    hostname     text NOT NULL,
    state        text NOT NULL,
    address      text NOT NULL,
    labels       TEXT NOT NULL,
    runtimes     TEXT NOT NULL,
    capacity     TEXT NOT NULL,
    version      text NOT NULL,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL
);

CREATE TABLE vms (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    state        text NOT NULL,
    reason       text NOT NULL,
    reason_kind  text NOT NULL,
    version      INTEGER NOT NULL,
    image        text NOT NULL,
    image_digest text NOT NULL,
    runtime      text NOT NULL,
    vcpus        INTEGER NOT NULL,
    memory_mib   INTEGER NOT NULL,
    disk_mib     INTEGER NOT NULL,
    env          TEXT NOT NULL,
    labels       TEXT NOT NULL,
    placement    TEXT NOT NULL,
    network      text NOT NULL,
    worker_id    text NOT NULL, -- empty until it is placed
    ip           text NOT NULL,
    created_at   INTEGER NOT NULL,
    started_at   INTEGER,
    ended_at     INTEGER
);
-- A name is free again once its VM is deleted.
CREATE UNIQUE INDEX vms_live_name ON vms (name) WHERE state <> 'deleted';
CREATE INDEX vms_live ON vms (id) WHERE state <> 'deleted';
CREATE INDEX vms_worker ON vms (worker_id) WHERE state <> 'deleted';

CREATE TABLE tasks (
    id               text PRIMARY KEY,
    type             text NOT NULL,
    state            text NOT NULL,
    priority         text NOT NULL,
    rank             INTEGER NOT NULL, -- of the priority; 0 is the most urgent
    vm_id            text NOT NULL,
    worker_id        text NOT NULL,
    attempt          INTEGER NOT NULL,
    max_attempts     INTEGER NOT NULL,
    reason           text NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    payload          TEXT,
    result           TEXT,
    error            TEXT,
    created_at       INTEGER NOT NULL,
    not_before       INTEGER NOT NULL, -- pending: not placed earlier
    queued_at        INTEGER,
    started_at       INTEGER,
    lease_until      INTEGER, -- running: whose lease it is, worker_id says
    ended_at         INTEGER
);
CREATE INDEX tasks_pending ON tasks (rank, id) WHERE state = 'pending';
CREATE INDEX tasks_queued ON tasks (queued_at) WHERE state = 'queued';
CREATE INDEX tasks_leases ON tasks (lease_until) WHERE state = 'running';
CREATE INDEX tasks_vm ON tasks (vm_id, id);

CREATE TABLE task_output (
    task_id       text NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    pos           INTEGER NOT NULL, -- in both streams together
    stream        text NOT NULL,
    stream_offset INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    data          BLOB NOT NULL,
    PRIMARY KEY (task_id, pos)
);

CREATE TABLE idempotency_keys (
    idem_key     text PRIMARY KEY,
    request_hash text NOT NULL,
    task_id      text NOT NULL,
    created_at   INTEGER NOT NULL
);

CREATE TABLE worker_images (
    worker_id  text NOT NULL REFERENCES workers (id) ON DELETE CASCADE,
    digest     text NOT NULL,
    ref        text NOT NULL,
    size_bytes INTEGER NOT NULL,
    layers     INTEGER NOT NULL,
    pulled_at  INTEGER NOT NULL,
    PRIMARY KEY (worker_id, digest, ref)
);

CREATE TABLE events (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    type      text NOT NULL,
    vm_id     text NOT NULL,
    task_id   text NOT NULL,
    worker_id text NOT NULL,
    state     text NOT NULL,
    reason    text NOT NULL
);
CREATE INDEX events_vm ON events (vm_id, id);
CREATE INDEX events_task ON events (task_id, id);

-- +goose Down
DROP TABLE events;
DROP TABLE worker_images;
DROP TABLE idempotency_keys;
DROP TABLE task_output;
DROP TABLE tasks;
DROP TABLE vms;
DROP TABLE workers;
