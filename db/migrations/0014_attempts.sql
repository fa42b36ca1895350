-- migrate:up

-- An e-mail that reports wrong passwords has no link.
ALTER TABLE mail_outbox DROP CONSTRAINT mail_outbox_purpose_check;
ALTER TABLE mail_outbox ADD CONSTRAINT mail_outbox_purpose_check
    CHECK (purpose IN ('verification', 'reset', 'attempts'));

-- Devices that a user has been signed in on before, even if that session has ended.
CREATE INDEX sessions_user ON sessions (user_id);

-- migrate:down

DROP INDEX sessions_user;
DELETE FROM mail_outbox WHERE purpose = 'attempts';
ALTER TABLE mail_outbox DROP CONSTRAINT mail_outbox_purpose_check;
ALTER TABLE mail_outbox ADD CONSTRAINT mail_outbox_purpose_check CHECK (purpose IN ('verification', 'reset'));
