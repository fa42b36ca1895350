-- migrate:up

-- Skeletons of names, by Unicode's confusables: two names that share one look alike. SQL cannot compute them;
-- providers/{k} fills missing ones, of system providers too, before it compares names; existing look-alikes stay.
-- former_*: the previous name, which no other provider may take for 30 days.
ALTER TABLE providers
    ADD COLUMN name_skeletons   text[],
    ADD COLUMN renamed_at       timestamptz,
    ADD COLUMN former_name      text,
    ADD COLUMN former_key       text,
    ADD COLUMN former_skeletons text[];
CREATE INDEX providers_skeletons ON providers USING gin (name_skeletons);
CREATE INDEX providers_former_skeletons ON providers USING gin (former_skeletons) WHERE former_skeletons IS NOT NULL;
CREATE INDEX providers_former_key ON providers (former_key) WHERE former_key IS NOT NULL;
CREATE INDEX providers_without_skeletons ON providers (user_id) WHERE name_skeletons IS NULL;

-- migrate:down

DROP INDEX providers_without_skeletons, providers_former_key, providers_former_skeletons, providers_skeletons;
ALTER TABLE providers
    DROP COLUMN name_skeletons, DROP COLUMN renamed_at, DROP COLUMN former_name, DROP COLUMN former_key,
    DROP COLUMN former_skeletons;
