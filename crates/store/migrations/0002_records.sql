-- Side records: not journaled, and nothing that decides about a call.
-- expires_at is in milliseconds since 1970; 9223372036854775807 is never.

CREATE TABLE records (
    collection KEY_TEXT NOT NULL,
    realm KEY_TEXT NOT NULL,
    key KEY_TEXT NOT NULL,
    body TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (collection, realm, key)
);

CREATE INDEX records_by_expiry ON records (expires_at);
