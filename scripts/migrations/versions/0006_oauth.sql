-- Whoever fetches the next access token holds a lease; what a grant belongs to is a keyed hash of app and seed.
ALTER TABLE credentials ALTER COLUMN sealed DROP NOT NULL;
ALTER TABLE credentials ADD COLUMN origin bytea;
ALTER TABLE credentials ADD COLUMN lease uuid;
ALTER TABLE credentials ADD COLUMN lease_until timestamptz;
