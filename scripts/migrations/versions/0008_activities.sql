-- What a claim and a settlement need. `lost_at`: an answer was lost then, so the entry may be there already.
ALTER TABLE deliveries
    ADD COLUMN detail TEXT,
    ADD COLUMN lane SMALLINT DEFAULT '0' NOT NULL,
    ADD COLUMN deaths SMALLINT DEFAULT '0' NOT NULL,
    ADD COLUMN claimed_with SMALLINT,
    ADD COLUMN max_batch SMALLINT,
    ADD COLUMN failing_since TIMESTAMP WITH TIME ZONE,
    ADD COLUMN lost_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN delivered_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE deliveries SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
                            autovacuum_vacuum_cost_delay = 0);

DROP INDEX ix_deliveries_due;
CREATE INDEX ix_deliveries_due ON deliveries (connection, operation, lane, not_before)
    WHERE not_before IS NOT NULL AND status IN ('pending', 'parked');
CREATE INDEX ix_deliveries_lease ON deliveries (lease_until) WHERE status = 'sending';
CREATE INDEX ix_deliveries_open ON deliveries (status, connection, id) WHERE status NOT IN ('delivered', 'cancelled');
CREATE INDEX ix_deliveries_event_id ON deliveries (event_id);

-- Activities that are dead can be sent once more, like people and events.
ALTER TABLE replays DROP CONSTRAINT ck_replays_kind,
    ADD CONSTRAINT ck_replays_kind CHECK (kind IN ('event', 'person', 'activity'));
