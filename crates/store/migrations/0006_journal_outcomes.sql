-- What became of an attempt, and of a refused one what it was aimed at and why. format tells over what the hash is:
-- entries that are there were hashed without these columns, and verifying demands that they have the values set here.

ALTER TABLE journal ADD COLUMN format BIGINT NOT NULL DEFAULT 1;
ALTER TABLE journal ADD COLUMN outcome KEY_TEXT NOT NULL DEFAULT 'done';
ALTER TABLE journal ADD COLUMN about_kind KEY_TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN about_key KEY_TEXT NOT NULL DEFAULT '';
ALTER TABLE journal ADD COLUMN detail TEXT NOT NULL DEFAULT '';
