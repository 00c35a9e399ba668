-- Tokens of identity providers that were used up, until they have ended. A build that does not know this table issues
-- nothing for such tokens, so that it may use the store.
CREATE TABLE used_tokens (
    trust_domain TEXT NOT NULL,
    -- SHA-256 of issuer and token id.
    token_sha256 BLOB NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, token_sha256)
);
CREATE INDEX used_tokens_by_end ON used_tokens (trust_domain, expires_at);
UPDATE schema_info SET version = 2;
