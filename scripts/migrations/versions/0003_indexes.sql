-- An event on its way is in the index of what is open, and in no other.
DROP INDEX ix_inbox_status;
CREATE INDEX ix_inbox_status ON inbox (status, connection, id) WHERE status NOT IN ('received', 'claimed');
DROP INDEX ix_inbox_person_id;
CREATE INDEX ix_inbox_person_id ON inbox (person_id, id) WHERE person_id IS NOT NULL;

-- When a person's next certificate expires is asked with every event about them.
CREATE INDEX ix_events_expires_at ON events (person_id, expires_at) WHERE expires_at IS NOT NULL;
