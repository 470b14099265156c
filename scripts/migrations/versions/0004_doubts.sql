-- A property that was gone may have lost everybody's value: known until nobody is believed to hold one from before.
ALTER TABLE quarantined_fields ADD COLUMN back_at timestamptz;
ALTER TABLE sync_state ADD COLUMN claimed_at timestamptz;
