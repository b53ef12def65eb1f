-- +goose Up
CREATE TABLE workers (
    id           text COLLATE "C" PRIMARY KEY,
    hostname     text NOT NULL,
    state        text NOT NULL,
    address      text NOT NULL,
    labels       jsonb NOT NULL,
    runtimes     jsonb NOT NULL,
    capacity     jsonb NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
);

CREATE TABLE vms (
    id           text COLLATE "C" PRIMARY KEY,
    name         text COLLATE "C" NOT NULL,
    state        text NOT NULL,
    reason       text NOT NULL,
    reason_kind  text NOT NULL,
    version      bigint NOT NULL,
    image        text NOT NULL,
    image_digest text NOT NULL,
    runtime      text NOT NULL,
    vcpus        integer NOT NULL,
    memory_mib   integer NOT NULL,
    disk_mib     integer NOT NULL,
    env          jsonb NOT NULL,
    labels       jsonb NOT NULL,
    placement    jsonb NOT NULL,
    network      text NOT NULL,
    worker_id    text COLLATE "C" NOT NULL, -- empty until it is placed
    ip           text NOT NULL,
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz
);
-- A name is free again once its VM is deleted.
CREATE UNIQUE INDEX vms_live_name ON vms (name) WHERE state <> 'deleted';
CREATE INDEX vms_live ON vms (id) WHERE state <> 'deleted';
CREATE INDEX vms_worker ON vms (worker_id) WHERE state <> 'deleted';

CREATE TABLE tasks (
    id               text COLLATE "C" PRIMARY KEY,
    type             text NOT NULL,
    state            text NOT NULL,
    priority         text NOT NULL,
    rank             integer NOT NULL, -- of the priority; 0 is the most urgent
    vm_id            text COLLATE "C" NOT NULL,
    worker_id        text COLLATE "C" NOT NULL,
    attempt          integer NOT NULL,
    max_attempts     integer NOT NULL,
    reason           text NOT NULL,
    cancel_requested boolean NOT NULL DEFAULT false,
    payload          jsonb,
    result           jsonb,
    error            jsonb,
    created_at       timestamptz NOT NULL,
    not_before       timestamptz NOT NULL, -- pending: not placed earlier
    queued_at        timestamptz,
    started_at       timestamptz,
    lease_until      timestamptz, -- running: whose lease it is, worker_id says
    ended_at         timestamptz
);
CREATE INDEX tasks_pending ON tasks (rank, id) WHERE state = 'pending';
CREATE INDEX tasks_queued ON tasks (queued_at) WHERE state = 'queued';
CREATE INDEX tasks_leases ON tasks (lease_until) WHERE state = 'running';
CREATE INDEX tasks_vm ON tasks (vm_id, id);

CREATE TABLE task_output (
    task_id       text COLLATE "C" NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    pos           bigint NOT NULL, -- in both streams together
    stream        text NOT NULL,
    stream_offset bigint NOT NULL,
    at            timestamptz NOT NULL,
    data          bytea NOT NULL,
    PRIMARY KEY (task_id, pos)
);

CREATE TABLE idempotency_keys (
    idem_key     text COLLATE "C" PRIMARY KEY,
    request_hash text NOT NULL,
    task_id      text COLLATE "C" NOT NULL,
    created_at   timestamptz NOT NULL
);

CREATE TABLE worker_images (
    worker_id  text COLLATE "C" NOT NULL REFERENCES workers (id) ON DELETE CASCADE,
    digest     text NOT NULL,
    ref        text NOT NULL,
    size_bytes bigint NOT NULL,
    layers     integer NOT NULL,
    pulled_at  timestamptz NOT NULL,
    PRIMARY KEY (worker_id, digest, ref)
);

CREATE TABLE events (
    id        bigint PRIMARY KEY, -- the transaction's id, then 16 bits of the event's place in it
    at        timestamptz NOT NULL,
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
