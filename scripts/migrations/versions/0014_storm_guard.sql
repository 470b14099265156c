-- A storm of role changes stops and asks. Only rows of roles fill these columns; in all others they cost nothing.
ALTER TABLE sync_state
    ADD COLUMN guard TEXT CONSTRAINT ck_sync_state_guard CHECK (guard IN ('held', 'approved')),
    ADD COLUMN acted_at TIMESTAMPTZ;
CREATE INDEX ix_sync_state_acted_at ON sync_state (connection, acted_at) WHERE acted_at IS NOT NULL;
