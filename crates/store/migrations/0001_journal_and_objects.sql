-- The journal, the end of it, and the objects that it adds up to.
-- KEY_TEXT is text that compares byte by byte; the dialect writes it in each database's words.

CREATE TABLE journal (
    seq BIGINT NOT NULL PRIMARY KEY,
    realm KEY_TEXT NOT NULL,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    action TEXT NOT NULL,
    request_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    mutations TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE INDEX journal_by_realm ON journal (realm, seq);

-- Which objects an entry wrote: finds the entries of one object.
CREATE TABLE journal_objects (
    realm KEY_TEXT NOT NULL,
    kind KEY_TEXT NOT NULL,
    key KEY_TEXT NOT NULL,
    seq BIGINT NOT NULL REFERENCES journal (seq),
    PRIMARY KEY (realm, kind, key, seq)
);

-- One row: the last entry. Writers lock it, so that entries are numbered in the order of their commits.
CREATE TABLE head (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);

INSERT INTO head (id, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

CREATE TABLE objects (
    realm KEY_TEXT NOT NULL,
    kind KEY_TEXT NOT NULL,
    key KEY_TEXT NOT NULL,
    revision BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (realm, kind, key)
);

CREATE INDEX objects_by_kind ON objects (kind, realm, key);
