-- The objects of an entry: verifying compares them with what the entry says.

CREATE INDEX journal_objects_by_entry ON journal_objects (seq);
