-- JWT-SVIDs that clients without a certificate have named themselves by, each good for one key. A build that does not know this table
-- would take one with another key; it may not use the store.
CREATE TABLE client_assertions (
    trust_domain TEXT NOT NULL,
    -- SHA-256 of the JWT-SVID.
    assertion_sha256 BLOB NOT NULL,
    -- The thumbprint of the key of the first proof that it came with.
    key_sha256 BLOB NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, assertion_sha256)
);
CREATE INDEX client_assertions_by_end ON client_assertions (trust_domain, expires_at);
UPDATE schema_info SET version = 6, oldest_reader = 6;
