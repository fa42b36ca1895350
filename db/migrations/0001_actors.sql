-- migrate:up

-- The epochs of actors' owners. A process that starts as an actor takes the next epoch; every write transaction holds
-- the row of its own epoch, so a process with an older one cannot write.
CREATE TABLE actor_epochs (
    actor    text PRIMARY KEY, -- as in Ray: lens/enrich, providers/3
    epoch    bigint NOT NULL CHECK (epoch > 0),
    taken_at timestamptz NOT NULL DEFAULT now(),
    taken_by text NOT NULL     -- host and process id, for people
) WITH (fillfactor = 50);

-- Commands that were applied, each with its answer: a batch that is delivered again changes nothing the second time.
-- Rows live for about an hour.
CREATE TABLE actor_commands (
    actor      text NOT NULL,
    command_id uuid NOT NULL,
    reply      bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, command_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX actor_commands_age ON actor_commands USING brin (applied_at) WITH (pages_per_range = 32, autosummarize = on);

-- migrate:down

DROP TABLE actor_commands, actor_epochs;
