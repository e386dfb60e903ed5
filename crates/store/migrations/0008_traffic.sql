-- What became of calls, by minute, and by hour once it is old: not journaled, and nothing that decides about a call.
-- minute counts from 1970. pipeline is empty and major 0 for calls that came to none. consumer is empty where nobody is
-- known, and * where there were too many to tell apart. measure is what of the calls is counted, as answer/2xx,
-- code/4xx/api-key-missing, took/03.

CREATE TABLE traffic (
    realm KEY_TEXT NOT NULL,
    environment KEY_TEXT NOT NULL,
    pipeline KEY_TEXT NOT NULL,
    major BIGINT NOT NULL,
    consumer KEY_TEXT NOT NULL,
    minute BIGINT NOT NULL,
    measure KEY_TEXT NOT NULL,
    calls BIGINT NOT NULL,
    PRIMARY KEY (realm, environment, pipeline, major, consumer, minute, measure)
);

CREATE INDEX traffic_by_minute ON traffic (minute, realm);
