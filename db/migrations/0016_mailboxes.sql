-- migrate:up

-- The mailbox that an address leads to: a suffix after a plus is ignored, and so are dots at Gmail.
ALTER TABLE users ADD COLUMN mailbox text NOT NULL GENERATED ALWAYS AS (
    CASE WHEN split_part(email, '@', 2) IN ('gmail.com', 'googlemail.com')
        THEN coalesce(nullif(replace(split_part(split_part(email, '@', 1), '+', 1), '.', ''), ''),
                      split_part(email, '@', 1)) || '@gmail.com'
        ELSE coalesce(nullif(split_part(split_part(email, '@', 1), '+', 1), ''), split_part(email, '@', 1))
             || '@' || split_part(email, '@', 2)
    END
) STORED;

-- Mailboxes by which a referral has counted: each does so once, under any of its addresses, for any referrer.
CREATE TABLE referral_mailboxes (
    mailbox    text PRIMARY KEY,
    referee_id uuid NOT NULL REFERENCES users
);
INSERT INTO referral_mailboxes (mailbox, referee_id)
SELECT u.mailbox, r.referee_id FROM referrals r JOIN users u ON u.id = r.referee_id
WHERE r.status = 'qualified' ORDER BY r.qualified_at, r.referee_id
ON CONFLICT DO NOTHING;

-- migrate:down

DROP TABLE referral_mailboxes;
ALTER TABLE users DROP COLUMN mailbox;
