-- Which properties an undo gave back; NULL where nobody has asked for it, empty where all of them were left.
ALTER TABLE reconciliation_findings ADD COLUMN undone_fields TEXT[];
