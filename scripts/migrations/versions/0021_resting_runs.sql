-- A comparison that has made the calls of one night rests, and goes on in the next.
ALTER TABLE reconciliations ADD COLUMN rests_at BIGINT;
ALTER TABLE reconciliations ADD COLUMN rested_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE reconciliations ADD COLUMN resumed_for TIMESTAMP WITH TIME ZONE;
ALTER TABLE reconciliations DROP CONSTRAINT ck_reconciliations_status;
ALTER TABLE reconciliations ADD CONSTRAINT ck_reconciliations_status
    CHECK (status IN ('running', 'resting', 'done', 'stopped', 'failed'));
