-- What an auditor looks for, a page at a time in the order of the numbers.

CREATE INDEX journal_by_realm_time ON journal (realm, at_sorted, seq);
CREATE INDEX journal_by_actor ON journal (realm, actor, seq);
CREATE INDEX journal_by_action ON journal (realm, action, seq);
CREATE INDEX journal_by_source ON journal (realm, source, seq);
CREATE INDEX journal_by_request ON journal (realm, request_id, seq);
CREATE INDEX journal_by_outcome ON journal (realm, outcome, seq);
CREATE INDEX journal_by_about ON journal (realm, about_kind, about_key, seq);
