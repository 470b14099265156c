-- One row for each rule that does not go without saying.
CREATE TABLE identity_rules (
    rule_set_id BIGINT NOT NULL CONSTRAINT fk_identity_rules_rule_set_id REFERENCES rule_sets (id),
    connection TEXT NOT NULL,
    name TEXT NOT NULL,
    side TEXT NOT NULL CONSTRAINT ck_identity_rules_side CHECK (side IN ('learners', 'contacts')),
    value JSONB NOT NULL,
    CONSTRAINT pk_identity_rules PRIMARY KEY (rule_set_id, connection, name)
);

-- Whom older identity rules left parked is looked at again when these change, and not with every other change.
ALTER TABLE rule_sets ADD COLUMN identity_since BIGINT CONSTRAINT fk_rule_sets_identity_since REFERENCES rule_sets (id);
