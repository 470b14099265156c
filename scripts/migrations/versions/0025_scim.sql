-- Users that identity providers push, sealed; keys are keyed hashes of all that they are looked up by.
CREATE TABLE scim_users (
    id UUID NOT NULL,
    connection TEXT NOT NULL,
    user_name_key BYTEA NOT NULL,
    keys BYTEA[] NOT NULL,
    sealed BYTEA NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    modified_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_scim_users PRIMARY KEY (id),
    CONSTRAINT uq_scim_users_connection_user_name_key UNIQUE (connection, user_name_key)
);
CREATE INDEX ix_scim_users_connection_created_at_id ON scim_users (connection, created_at, id);
CREATE INDEX ix_scim_users_keys ON scim_users USING gin (keys);
