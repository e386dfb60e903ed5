-- Calls that gateways counted, by minute: not journaled, and nothing that decides about a call.
-- minute counts from 1970. consumer is empty where nobody is known, and * where there were too many to tell apart;
-- api_key is empty where none was demanded.

CREATE TABLE calls (
    realm KEY_TEXT NOT NULL,
    environment KEY_TEXT NOT NULL,
    pipeline KEY_TEXT NOT NULL,
    major BIGINT NOT NULL,
    minute BIGINT NOT NULL,
    consumer KEY_TEXT NOT NULL,
    api_key KEY_TEXT NOT NULL,
    credentials KEY_TEXT NOT NULL,
    calls BIGINT NOT NULL,
    PRIMARY KEY (realm, environment, pipeline, major, minute, consumer, api_key, credentials)
);

CREATE INDEX calls_by_minute ON calls (minute, realm);
