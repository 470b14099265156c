-- A set was a draft only within the transaction that published it, so there is none.
ALTER TABLE rule_sets
    DROP CONSTRAINT ck_rule_sets_status,
    ADD CONSTRAINT ck_rule_sets_status CHECK (status IN ('published', 'retired')),
    ALTER COLUMN status DROP DEFAULT,
    ALTER COLUMN published_at SET DEFAULT now(),
    ALTER COLUMN published_at SET NOT NULL;
