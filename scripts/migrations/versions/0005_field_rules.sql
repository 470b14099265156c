-- A rule says where its value comes from, how it is changed on the way, and who owns the property.
ALTER TABLE field_maps
    ADD COLUMN connection TEXT DEFAULT '' NOT NULL,
    ADD COLUMN source TEXT,
    ADD COLUMN transform JSONB DEFAULT '[]' NOT NULL,
    ADD COLUMN owner TEXT DEFAULT 'lms' NOT NULL,
    ADD COLUMN rule TEXT DEFAULT 'always' NOT NULL,
    ADD COLUMN required BOOLEAN DEFAULT 'false' NOT NULL,
    ADD CONSTRAINT ck_field_maps_owner CHECK (owner IN ('lms', 'crm')),
    ADD CONSTRAINT ck_field_maps_rule
        CHECK (rule IN ('always', 'only_if_blank', 'never_clear', 'max', 'min', 'append'));
UPDATE field_maps SET source = field;
ALTER TABLE field_maps ALTER COLUMN source SET NOT NULL;
ALTER TABLE field_maps DROP CONSTRAINT pk_field_maps,
    ADD CONSTRAINT pk_field_maps PRIMARY KEY (rule_set_id, system, connection, object_type, field);

-- Until everybody was looked at by the rules of a set, it is on its way.
ALTER TABLE rule_sets ADD COLUMN rolled_out_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN origin_id BIGINT CONSTRAINT fk_rule_sets_origin_id REFERENCES rule_sets (id);
UPDATE rule_sets SET rolled_out_at = published_at;
