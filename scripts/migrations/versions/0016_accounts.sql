-- The companies of contacts; their numbers are drawn from the sequence of people.
CREATE TABLE accounts (
    id BIGINT NOT NULL,
    connection TEXT NOT NULL,
    external_id TEXT NOT NULL,
    ever TEXT[] DEFAULT '{}' NOT NULL,
    CONSTRAINT pk_accounts PRIMARY KEY (id),
    CONSTRAINT uq_accounts_connection_external_id UNIQUE (connection, external_id)
);

-- In which company a person's contact is, and what they add to it.
CREATE TABLE account_people (
    connection TEXT NOT NULL,
    person_id BIGINT NOT NULL,
    account_id BIGINT NOT NULL,
    shows JSONB,
    CONSTRAINT pk_account_people PRIMARY KEY (connection, person_id),
    CONSTRAINT fk_account_people_person_id FOREIGN KEY(person_id) REFERENCES people (id),
    CONSTRAINT fk_account_people_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
);
CREATE INDEX ix_account_people_account_id ON account_people (account_id);

-- What a rule makes of the people of a company, and which values count.
ALTER TABLE field_maps ADD COLUMN aggregate TEXT DEFAULT '' NOT NULL,
    ADD COLUMN counted TEXT[] DEFAULT '{}' NOT NULL,
    ADD CONSTRAINT ck_field_maps_aggregate CHECK (aggregate IN ('', 'count', 'percent', 'any', 'all', 'sum'));
