-- migrate:up

-- Every referral code that a user has or had: links that are in circulation stay valid. users.referral_code is the
-- current one. Codes are reserved here, so that a code is one user's alone, for ever.
CREATE TABLE referral_codes (
    code       text PRIMARY KEY,           -- upper case
    user_id    uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL
);
CREATE INDEX referral_codes_user ON referral_codes (user_id);
INSERT INTO referral_codes (code, user_id, created_at) SELECT referral_code, id, created_at FROM users;

-- acted_at is written by the referee's owner, its consequences by the referrer's: each once.
ALTER TABLE referrals
    ADD COLUMN acted_at       timestamptz, -- the referee's first follow or signal
    ADD COLUMN qualified_at   timestamptz,
    ADD COLUMN tier           text CHECK (tier IN ('bronze', 'silver', 'gold')), -- the referrer's, then
    ADD COLUMN reward_amount  numeric CHECK (reward_amount >= 0),  -- the referrer's
    ADD COLUMN referee_reward numeric CHECK (referee_reward >= 0),
    ADD CONSTRAINT referrals_qualified_whole CHECK (status = 'pending' OR (acted_at IS NOT NULL
        AND qualified_at IS NOT NULL AND tier IS NOT NULL AND reward_amount IS NOT NULL AND referee_reward IS NOT NULL));
DROP INDEX referrals_referrer;
CREATE INDEX referrals_referrer ON referrals (referrer_id, created_at DESC, referee_id);
CREATE INDEX referrals_qualified ON referrals (referrer_id) INCLUDE (referee_id) WHERE status = 'qualified';
CREATE INDEX referrals_waiting ON referrals (referee_id) WHERE status = 'pending' AND acted_at IS NOT NULL;
CREATE INDEX referrals_idle ON referrals (referee_id) WHERE acted_at IS NULL;

-- Days in a row, of all users; provider_streaks has those of publishing. Dates are those of the user's zone at the time.
CREATE TABLE user_streaks (
    user_id       uuid NOT NULL REFERENCES users,
    streak_type   text NOT NULL CHECK (streak_type IN ('login', 'analysis_post')),
    current_count integer NOT NULL CHECK (current_count > 0),
    longest_count integer NOT NULL CHECK (longest_count >= current_count),
    started_on    date NOT NULL,
    last_on       date NOT NULL,   -- the latest day that counted
    seen_on       date NOT NULL,   -- the day of the latest activity in `zone`
    zone          text NOT NULL,   -- as it was then
    PRIMARY KEY (user_id, streak_type)
) WITH (fillfactor = 80);

-- Streaks that have ended.
CREATE TABLE user_streak_runs (
    user_id     uuid NOT NULL REFERENCES users,
    streak_type text NOT NULL,
    count       integer NOT NULL CHECK (count > 0),
    started_on  date NOT NULL,
    ended_on    date NOT NULL,     -- the last day of it
    PRIMARY KEY (user_id, streak_type, started_on)
);

-- Unlocked achievements, once and for ever. Written by users/{k}.
CREATE TABLE achievements (
    user_id        uuid NOT NULL REFERENCES users,
    achievement_id text NOT NULL,
    unlocked_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, achievement_id)
);

-- migrate:down

DROP TABLE achievements, user_streak_runs, user_streaks;
DROP INDEX referrals_idle, referrals_waiting, referrals_qualified, referrals_referrer;
ALTER TABLE referrals
    DROP CONSTRAINT referrals_qualified_whole, DROP COLUMN referee_reward, DROP COLUMN reward_amount, DROP COLUMN tier,
    DROP COLUMN qualified_at, DROP COLUMN acted_at;
CREATE INDEX referrals_referrer ON referrals (referrer_id, created_at);
DROP TABLE referral_codes;
