-- Enrolments that are dead or parked can be put back like events, people and activities.
ALTER TABLE replays DROP CONSTRAINT ck_replays_kind,
    ADD CONSTRAINT ck_replays_kind CHECK (kind IN ('event', 'person', 'activity', 'enrollment'));
