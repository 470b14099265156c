-- A CRM said that a contact changed: what is believed of it stays, and is not relied on.
ALTER TABLE sync_state ADD COLUMN doubted_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE links ADD COLUMN moved_at TIMESTAMP WITH TIME ZONE;

-- Hints that wait for a look at their contact.
CREATE INDEX ix_inbox_enriching ON inbox (connection, id) WHERE status = 'enriching';

-- Whom an erased person was known by, as keyed hashes: late events about them stay out.
CREATE TABLE tombstones (
    key BYTEA NOT NULL,
    person_id BIGINT,
    erased_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_tombstones PRIMARY KEY (key)
);

-- How often somebody put a property back that we had written.
CREATE TABLE loops (
    connection TEXT NOT NULL,
    person_id BIGINT NOT NULL,
    field TEXT NOT NULL,
    rewrites SMALLINT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    held_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_loops PRIMARY KEY (connection, person_id, field)
);

