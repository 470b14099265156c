-- What HR says of people's work, sealed; the manager's employee id is kept as a keyed hash to find their people by.
CREATE TABLE employments (
    person_id BIGINT NOT NULL,
    connections TEXT[] NOT NULL,
    sealed BYTEA NOT NULL,
    status TEXT,
    manager_key BYTEA,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_employments PRIMARY KEY (person_id),
    CONSTRAINT fk_employments_person_id FOREIGN KEY(person_id) REFERENCES people (id),
    CONSTRAINT ck_employments_status CHECK (status IN ('active', 'leave', 'left'))
);
CREATE INDEX ix_employments_manager_key ON employments (manager_key) WHERE manager_key IS NOT NULL;

-- What becomes of a pathway that a rule gave to somebody who has left the company since.
ALTER TABLE role_pathways ADD COLUMN leavers TEXT DEFAULT 'keep' NOT NULL,
    ADD CONSTRAINT ck_role_pathways_leavers CHECK (leavers IN ('keep', 'withdraw'));
