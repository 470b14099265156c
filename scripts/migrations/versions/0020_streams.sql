-- Webhooks per hour; what we found out ourselves is not among them, or it would hide a dead webhook.
CREATE TABLE volumes (
    connection TEXT NOT NULL,
    kind TEXT NOT NULL,
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    events BIGINT NOT NULL,
    CONSTRAINT pk_volumes PRIMARY KEY (connection, kind, hour)
);

-- When an endpoint of ours could take events: one bit per minute.
CREATE TABLE attendance (
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    minutes BIGINT NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_attendance PRIMARY KEY (hour)
);

-- What is said of each stream. `silent_from` and `silent_until`: its last silence; without an end it lasts.
CREATE TABLE streams (
    connection TEXT NOT NULL,
    kind TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    first_heard_at TIMESTAMP WITH TIME ZONE,
    last_heard_at TIMESTAMP WITH TIME ZONE,
    state TEXT DEFAULT 'learning' NOT NULL,
    hours BIGINT DEFAULT '0' NOT NULL,
    usual BIGINT[] DEFAULT '{}' NOT NULL,
    expected_seconds BIGINT,
    deaf_minutes BIGINT DEFAULT '0' NOT NULL,
    silent_from TIMESTAMP WITH TIME ZONE,
    silent_until TIMESTAMP WITH TIME ZONE,
    looked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_streams PRIMARY KEY (connection, kind),
    CONSTRAINT ck_streams_state CHECK (state IN ('learning', 'usual', 'silent', 'all_quiet', 'unwatched'))
);
