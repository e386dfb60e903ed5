-- Finds credentials by the consumer that holds them (owner), and consumers and credentials by what a caller or a token
-- shows of them (handle): among a hundred thousand consumers nobody reads all of them. Both are computed by the database
-- of the object itself, so that they cannot say anything else. BODY_JSON is the body as each database takes JSON.

ALTER TABLE objects ADD COLUMN owner KEY_TEXT GENERATED ALWAYS AS (
    CASE WHEN kind IN ('api-key', 'basic-auth', 'certificate') THEN BODY_JSON ->> 'consumer' END
) GENERATED_HOW;

ALTER TABLE objects ADD COLUMN handle KEY_TEXT GENERATED ALWAYS AS (
    CASE kind
        WHEN 'api-key' THEN BODY_JSON ->> 'digest'
        WHEN 'basic-auth' THEN BODY_JSON ->> 'username'
        WHEN 'consumer' THEN BODY_JSON ->> 'id'
    END
) GENERATED_HOW;

CREATE INDEX objects_by_owner ON objects (realm, kind, owner, key) WHERE owner IS NOT NULL;
CREATE INDEX objects_by_handle ON objects (realm, kind, handle, key) WHERE handle IS NOT NULL;
