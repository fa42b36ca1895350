-- migrate:up

-- The boards that find skill, computed once for each UTC day from record_stats, when every shard of providers has its
-- end. Written by `leaderboards` alone; a night is never changed, and kept for nine days.
CREATE TABLE board_nights (
    day         date PRIMARY KEY,   -- the last day that counts
    as_of_seq   bigint NOT NULL,    -- the feed_seq of the newest signal that counts
    computed_at timestamptz NOT NULL,
    eligible    bigint NOT NULL,    -- providers that were ever eligible
    listed      bigint NOT NULL,    -- of them on the boards
    least_luck  double precision    -- the smallest chance that one of them is luck; null without any
);

-- Everyone who was ever eligible, as of a night. Of nights before the newest only those are kept that were listed.
CREATE TABLE board_candidates (
    day            date NOT NULL REFERENCES board_nights ON DELETE CASCADE,
    provider_id    uuid NOT NULL,
    skill_rank     bigint,          -- null, as that of steadiness: not listed
    steady_rank    bigint,
    skill          double precision NOT NULL,  -- the lower bound of the shrunk Sharpe ratio,
    upper          double precision NOT NULL,  -- and the upper one
    luck           double precision NOT NULL,
    steadiness     double precision NOT NULL,
    bets           bigint NOT NULL,
    days           bigint NOT NULL,
    max_drawdown   double precision NOT NULL,
    open_result    double precision NOT NULL,
    share_verified double precision NOT NULL,
    PRIMARY KEY (day, provider_id)
);
CREATE UNIQUE INDEX board_candidates_skill ON board_candidates (day, skill_rank) WHERE skill_rank IS NOT NULL;
CREATE UNIQUE INDEX board_candidates_steady ON board_candidates (day, steady_rank) WHERE steady_rank IS NOT NULL;

-- The entries of full hours, by which the end of a day is found.
CREATE INDEX log_entries_marks ON log_entries (index) WHERE kind = 'mark';

-- migrate:down

DROP INDEX log_entries_marks;
DROP TABLE board_candidates, board_nights;
