-- Finds entries by time. What is written of a time has as many digits of the second as it needs, so that its text does
-- not sort; at_sorted has nine always. It is computed by the database: nobody can set it to another time than at says.
-- GENERATED_HOW is what each database can add to a table that is there: STORED or VIRTUAL.

ALTER TABLE journal ADD COLUMN at_sorted KEY_TEXT GENERATED ALWAYS AS (
    CASE WHEN substr(at, 20, 1) = '.'
        THEN substr(at, 1, 20) || substr(substr(at, 21, length(at) - 21) || '000000000', 1, 9)
        ELSE substr(at, 1, 19) || '.000000000'
    END
) GENERATED_HOW;

CREATE INDEX journal_by_time ON journal (at_sorted, seq);
