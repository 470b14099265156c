-- Which of several words counts: the latest by business time and never by arrival, then kind, key and revision
-- (rule 6). Whoever asks orders by `weight`, so it stands here and nowhere else.
CREATE TYPE weight AS (occurred_at TIMESTAMP WITH TIME ZONE, rank SMALLINT, fact_key BYTEA, revision INTEGER);

CREATE VIEW weighed_events AS
SELECT (e.occurred_at, e.rank, e.fact_key, e.revision)::weight AS weight, e.* FROM events e;

-- Courses that replaced one another count as one, named by the newest.
CREATE VIEW lineages AS
WITH RECURSIVE lineage AS (
    SELECT id, connection, external_id, external_id AS head FROM courses WHERE replaced_by IS NULL
  UNION ALL
    SELECT c.id, c.connection, c.external_id, l.head FROM courses c JOIN lineage l ON c.replaced_by = l.id
)
SELECT connection, external_id, head FROM lineage;

-- What decides a standing, with the subject it counts for. Enrolling again, progress and assessments are kept beside it
-- and change none.
CREATE VIEW deciding_events AS
SELECT e.*, coalesce(l.head, e.subject_id) AS subject
FROM weighed_events e
LEFT JOIN lineages l ON e.subject_type = 'course' AND l.connection = e.connection AND l.external_id = e.subject_id
WHERE e.type IN ('course.completed', 'enrollment.cancelled', 'certification.issued', 'certification.expired',
                 'certification.revoked');

-- From here on what others may read: docs/data-out.md. A view reads with the rights of who made it, so a reader needs
-- none on the tables.
CREATE SCHEMA reporting;

CREATE VIEW reporting.people AS
SELECT id AS person_id, created_at, attention, merged_into, erased_at FROM people;

CREATE VIEW reporting.courses AS
SELECT c.connection, c.external_id AS course_id, c.name AS course_name, c.status, l.head AS lineage
FROM courses c JOIN lineages l USING (connection, external_id);

CREATE VIEW reporting.facts AS
SELECT first.id AS fact_id, e.revision, e.person_id, e.connection, e.type, e.subject_type, e.subject_id,
       e.subject_name, course.id AS course_id, coalesce(c.name, course.name) AS course_name,
       coalesce(l.head, course.id) AS lineage, e.module_id, e.product, e.score, e.score_max, e.passed, e.progress,
       e.expires_at, e.occurred_at, e.clamped AS is_clamped, e.origin, e.recorded_at
FROM weighed_events e
CROSS JOIN LATERAL (
    SELECT coalesce(e.course_id, CASE WHEN e.subject_type = 'course' THEN e.subject_id END) AS id,
           coalesce(e.course_name, CASE WHEN e.subject_type = 'course' THEN e.subject_name END) AS name) course
LEFT JOIN events first ON first.fact_key = e.fact_key AND first.revision = 1
LEFT JOIN courses c ON c.connection = e.connection AND c.external_id = course.id
LEFT JOIN lineages l ON l.connection = e.connection AND l.external_id = course.id
WHERE NOT EXISTS (SELECT FROM weighed_events o WHERE o.fact_key = e.fact_key AND o.weight > e.weight);

CREATE VIEW reporting.standings AS
SELECT DISTINCT ON (e.person_id, e.connection, e.subject_type, e.subject)
       e.person_id, e.connection, e.subject_type, e.subject AS subject_id, e.subject_name, e.type, e.passed, e.product,
       e.expires_at, e.occurred_at
FROM deciding_events e
ORDER BY e.person_id, e.connection, e.subject_type, e.subject, e.weight DESC;

CREATE VIEW reporting.assignments AS
SELECT a.id AS assignment_id, a.person_id, a.pathway, p.title, a.cause, nullif(a.connection, '') AS connection,
       a.status, a.assigned_at, a.due_at, a.ended_at
FROM assignments a LEFT JOIN pathways p ON p.rule_set_id = a.rule_set AND p.name = a.pathway;

-- What a pathway consists of now; of an assignment that has ended nobody asks.
CREATE VIEW reporting.pathway_courses AS
SELECT p.name AS pathway, p.title, c.connection, c.course_id, coalesce(l.head, c.course_id) AS lineage, c.bucket,
       c.required AS is_required
FROM rule_sets r
JOIN pathways p ON p.rule_set_id = r.id
JOIN pathway_courses c ON c.rule_set_id = r.id AND c.pathway = p.name
LEFT JOIN lineages l ON l.connection = c.connection AND l.external_id = c.course_id
WHERE r.status = 'published';

CREATE VIEW reporting.enrollments AS
SELECT id AS enrollment_id, person_id, connection, course_id, desired, state, is_ours, due_at, status, reason,
       created_at, written_at
FROM enrollments;

-- Of the rows of sync_state, those about people; companies and deals are there as well, and have numbers of the same
-- series.
CREATE VIEW reporting.sync WITH (security_barrier) AS
SELECT subject_id AS person_id, connection, status = 'in_step' AS is_in_step, status, reason, attempts, wanted_since,
       failing_since, written_at
FROM sync_state WHERE object_type = 'contact' AND operation = 'contact.upsert';

CREATE VIEW reporting.deliveries AS
SELECT d.id AS delivery_id, d.person_id, first.id AS fact_id, d.connection, d.operation, d.status, d.reason, d.attempts,
       d.created_at, d.delivered_at
FROM deliveries d
LEFT JOIN events e ON e.id = d.event_id
LEFT JOIN events first ON first.fact_key = e.fact_key AND first.revision = 1;

CREATE VIEW reporting.attempts AS
SELECT a.id AS attempt_id, coalesce(CASE WHEN s.object_type = 'contact' THEN s.subject_id END, d.person_id, n.person_id)
           AS person_id,
       a.connection, a.operation, a.outcome, a.reason, a.fields AS properties, a.started_at, a.finished_at
FROM attempts a
LEFT JOIN sync_state s ON a.subject_type = 'sync_state' AND s.id = a.subject_id
LEFT JOIN deliveries d ON a.subject_type = 'delivery' AND d.id = a.subject_id
LEFT JOIN enrollments n ON a.subject_type = 'enrollment' AND n.id = a.subject_id;

CREATE VIEW reporting.comparisons AS
SELECT id AS comparison_id, connection, is_dry, status, reason, scheduled_for, started_at, finished_at,
       coalesce((counts ->> 'contacts')::bigint, 0) AS contacts, coalesce((counts ->> 'equal')::bigint, 0) AS equal,
       coalesce((counts ->> 'repaired')::bigint, 0) AS repaired
FROM reconciliations;

CREATE VIEW reporting.drift AS
SELECT f.id AS finding_id, f.reconciliation_id AS comparison_id, r.connection, f.person_id, f.kind AS class,
       p.property, f.repairs AS is_repaired, coalesce(p.property = ANY (f.undone_fields), false) AS is_undone, f.found_at
FROM reconciliation_findings f
JOIN reconciliations r ON r.id = f.reconciliation_id
LEFT JOIN LATERAL unnest(f.fields) AS p(property) ON true;
