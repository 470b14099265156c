-- Deals that a CRM told of. They are subjects of sync_state like people, and so are numbered in one series with them.
CREATE TABLE deals (
    id BIGINT DEFAULT nextval('people_id_seq') NOT NULL,
    connection TEXT NOT NULL,
    external_id TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_deals PRIMARY KEY (id),
    CONSTRAINT uq_deals_connection_external_id UNIQUE (connection, external_id)
);

-- Everywhere that a deal was, as read last.
CREATE TABLE deal_stages (
    deal_id BIGINT NOT NULL,
    position SMALLINT NOT NULL,
    pipeline TEXT NOT NULL,
    stage TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_deal_stages PRIMARY KEY (deal_id, position),
    CONSTRAINT fk_deal_stages_deal_id FOREIGN KEY(deal_id) REFERENCES deals (id)
);

-- Whose it is: ids of contacts, who need not be anybody here.
CREATE TABLE deal_contacts (
    deal_id BIGINT NOT NULL,
    connection TEXT NOT NULL,
    contact_id TEXT NOT NULL,
    CONSTRAINT pk_deal_contacts PRIMARY KEY (deal_id, contact_id),
    CONSTRAINT fk_deal_contacts_deal_id FOREIGN KEY(deal_id) REFERENCES deals (id)
);
CREATE INDEX ix_deal_contacts_contact ON deal_contacts (connection, contact_id);
