-- migrate:up

-- Two activities fall on two days only if a midnight of the zone that is in force now lies between their instants:
-- dates alone do not show it. Null in older rows: such a day counted, and its activity was at its end.
ALTER TABLE user_streaks
    ADD COLUMN counted_on date,            -- the latest day that counted
    ADD COLUMN counted_at timestamptz,     -- the activity that made it count
    ADD COLUMN seen_at    timestamptz;     -- the latest activity, to a quarter of an hour
ALTER TABLE provider_streaks
    ADD COLUMN counted_on date,
    ADD COLUMN counted_at timestamptz,
    ADD COLUMN seen_at    timestamptz;

-- migrate:down

ALTER TABLE provider_streaks DROP COLUMN seen_at, DROP COLUMN counted_at, DROP COLUMN counted_on;
ALTER TABLE user_streaks DROP COLUMN seen_at, DROP COLUMN counted_at, DROP COLUMN counted_on;
