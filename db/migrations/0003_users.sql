-- migrate:up

-- An account. Written only by its owner, users/{k}. A user is a provider if there is a row in providers.
CREATE TABLE users (
    id             uuid PRIMARY KEY,
    email          text NOT NULL UNIQUE,   -- lower-cased and trimmed
    email_verified boolean NOT NULL,
    password_hash  text,                   -- null: it was made through an OAuth provider and never had one
    display_name   text NOT NULL,
    avatar_url     text,
    bio            text,
    referral_code  text NOT NULL UNIQUE,   -- upper case
    created_at     timestamptz NOT NULL
);

-- The accounts at OAuth providers that sign in to an account of ours.
CREATE TABLE user_identities (
    provider  text NOT NULL,
    subject   text NOT NULL,               -- the provider's id of its user
    user_id   uuid NOT NULL REFERENCES users,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (provider, subject)
);
CREATE INDEX user_identities_user ON user_identities (user_id);

-- A login, and the family of refresh tokens that descends from it. It lives until revoked_at or expires_at.
CREATE TABLE sessions (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users,
    created_at    timestamptz NOT NULL,
    last_used_at  timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    user_agent    text,
    ip            text NOT NULL,
    current_hash  bytea NOT NULL,          -- SHA-256 of the one refresh token that may be used
    previous_hash bytea,                   -- of the one before it, which a concurrent retry may still present
    rotated_at    timestamptz,
    revoked_at    timestamptz
) WITH (fillfactor = 80);
CREATE INDEX sessions_live ON sessions (user_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Every refresh token ever issued, for as long as it could be valid: reuse of a rotated one reveals a theft.
CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY,          -- SHA-256; the token itself is not stored
    session_id uuid NOT NULL,
    user_id    uuid NOT NULL,
    issued_at  timestamptz NOT NULL
);
CREATE INDEX refresh_tokens_age ON refresh_tokens USING brin (issued_at) WITH (pages_per_range = 32);

-- Links that were mailed: each is valid once.
CREATE TABLE one_time_tokens (
    hash       bytea PRIMARY KEY,          -- SHA-256
    user_id    uuid NOT NULL REFERENCES users,
    purpose    text NOT NULL CHECK (purpose IN ('verification', 'reset')),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX one_time_tokens_unused ON one_time_tokens (user_id) WHERE used_at IS NULL;
CREATE INDEX one_time_tokens_expiry ON one_time_tokens (expires_at);

-- E-mails to be sent. A request is a row whether or not an account has that address, so that asking takes the same
-- time; the recipient, and the link, are determined when it is sent.
CREATE TABLE mail_outbox (
    id         uuid PRIMARY KEY,
    purpose    text NOT NULL CHECK (purpose IN ('verification', 'reset')),
    email      text NOT NULL,
    created_at timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,       -- not before; a sender that holds the e-mail moves it past its own deadline
    attempts   smallint NOT NULL DEFAULT 0,
    last_error text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX mail_outbox_due ON mail_outbox (due_at);

-- OAuth states that came back: each is valid once. Kept until they would have expired anyway.
CREATE TABLE oauth_states (
    hash       bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

-- Referrers and referees. Pending until the referee's first follow or signal.
CREATE TABLE referrals (
    referee_id  uuid PRIMARY KEY REFERENCES users,
    referrer_id uuid NOT NULL REFERENCES users,
    status      text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'qualified')),
    created_at  timestamptz NOT NULL,
    CHECK (referee_id <> referrer_id)
);
CREATE INDEX referrals_referrer ON referrals (referrer_id, created_at);

-- A user's settings. No row: the defaults.
CREATE TABLE user_settings (
    user_id               uuid PRIMARY KEY REFERENCES users,
    risk_tolerance        text NOT NULL CHECK (risk_tolerance IN ('conservative', 'moderate', 'aggressive')),
    min_opportunity_score double precision NOT NULL CHECK (min_opportunity_score BETWEEN 0 AND 1),
    default_action_filter text[] NOT NULL,
    theme                 text NOT NULL CHECK (theme IN ('dark', 'light', 'system')),
    timezone              text NOT NULL,
    onboarding_completed  boolean NOT NULL,
    onboarding_step       integer NOT NULL CHECK (onboarding_step >= 0)
);

CREATE TABLE watchlist_items (
    user_id       uuid NOT NULL REFERENCES users,
    symbol        text NOT NULL,
    notes         text,
    alert_enabled boolean NOT NULL,
    position_size numeric CHECK (position_size > 0),
    entry_price   numeric CHECK (entry_price > 0),
    added_at      timestamptz NOT NULL,
    PRIMARY KEY (user_id, symbol)
);

CREATE TABLE saved_views (
    id          uuid PRIMARY KEY,
    user_id     uuid NOT NULL REFERENCES users,
    name        text NOT NULL,
    description text,
    filters     json NOT NULL,             -- not jsonb: it comes back as it was sent
    is_default  boolean NOT NULL,
    created_at  timestamptz NOT NULL,
    UNIQUE (user_id, name) DEFERRABLE INITIALLY DEFERRED -- two views may swap names in one batch
);

-- Items that were removed from a list, so that removing one again is no error while removing one that never existed is.
-- The owner keeps a bounded number per user and list.
CREATE TABLE removed_items (
    user_id    uuid NOT NULL REFERENCES users,
    list       text NOT NULL CHECK (list IN ('watchlist', 'saved_views')),
    item       text NOT NULL,
    removed_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, list, item)
);

-- migrate:down

DROP TABLE removed_items, saved_views, watchlist_items, user_settings, referrals, oauth_states, mail_outbox,
    one_time_tokens, refresh_tokens, sessions, user_identities, users;
