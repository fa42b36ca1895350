-- migrate:up

-- A letter that tells of wrong passwords has no link.
ALTER TABLE mail_outbox DROP CONSTRAINT mail_outbox_purpose_check;
ALTER TABLE mail_outbox ADD CONSTRAINT mail_outbox_purpose_check
    CHECK (purpose IN ('verification', 'reset', 'attempts'));

-- Where a user has been signed in before, though that session may have ended.
CREATE INDEX sessions_user ON sessions (user_id);

-- migrate:down

DROP INDEX sessions_user;
DELETE FROM mail_outbox WHERE purpose = 'attempts';
ALTER TABLE mail_outbox DROP CONSTRAINT mail_outbox_purpose_check;
ALTER TABLE mail_outbox ADD CONSTRAINT mail_outbox_purpose_check CHECK (purpose IN ('verification', 'reset'));
