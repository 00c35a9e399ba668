-- The first schema, for SQLite. Times are Unix seconds, `_ms` milliseconds; revisions are (epoch, n).
-- `INTEGER PRIMARY KEY` is SQLite's row number; on PostgreSQL the same columns are the key together with trust_domain.

-- About this database: which builds may use it.
CREATE TABLE schema_info (
    version BIGINT NOT NULL,
    oldest_reader BIGINT NOT NULL
);
INSERT INTO schema_info (version, oldest_reader) VALUES (1, 1);

-- One row: where the history of changes stands.
CREATE TABLE store (
    trust_domain TEXT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    -- The order that the next new entry gets.
    next_order BIGINT NOT NULL
);

CREATE TABLE entries (
    trust_domain TEXT NOT NULL,
    uid TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    -- Canonical JSON.
    document TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    issuance BIGINT NOT NULL,
    entry_order BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, uid),
    UNIQUE (trust_domain, name)
);

CREATE TABLE bundles (
    trust_domain TEXT NOT NULL,
    -- Whose bundle it is.
    subject TEXT NOT NULL,
    owner TEXT NOT NULL,
    document TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, subject)
);

CREATE TABLE slots (
    trust_domain TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Empty: shared by all issuers.
    issuer TEXT NOT NULL,
    generation BIGINT NOT NULL,
    state TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    public_key BLOB NOT NULL,
    -- NULL: the key never leaves its process.
    key_provider TEXT,
    key_bytes BLOB,
    wrapping_key_id TEXT,
    -- Certificates: each a length (32 bits, big-endian) and DER.
    chain BLOB NOT NULL,
    anchors BLOB NOT NULL,
    origin TEXT NOT NULL,
    prepared_at BIGINT NOT NULL,
    activate_by BIGINT,
    activated_at BIGINT,
    retiring_at BIGINT,
    ended_at BIGINT,
    not_after BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, id),
    UNIQUE (trust_domain, kind, issuer, generation)
);
CREATE UNIQUE INDEX one_active_slot ON slots (trust_domain, kind, issuer) WHERE state = 'active';

CREATE TABLE nodes (
    trust_domain TEXT NOT NULL,
    spiffe_id TEXT NOT NULL,
    attestor TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    key_spki BLOB NOT NULL,
    key_sha256 BLOB NOT NULL,
    -- JSON array.
    selectors TEXT NOT NULL,
    generation BIGINT NOT NULL,
    last_request BLOB,
    last_answer BLOB,
    attested_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    svid_not_after BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, spiffe_id)
);

CREATE TABLE join_tokens (
    trust_domain TEXT NOT NULL,
    token_sha256 BLOB NOT NULL,
    spiffe_id TEXT NOT NULL,
    selectors TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- NULL until it is consumed.
    bound_key_sha256 BLOB,
    PRIMARY KEY (trust_domain, token_sha256)
);

-- What each change touched; the newest only.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY,
    trust_domain TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    deleted BIGINT NOT NULL
);

-- One row a group commit; see ledger/batch.rs.
CREATE TABLE ledger (
    batch INTEGER PRIMARY KEY,
    trust_domain TEXT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    count BIGINT NOT NULL,
    format BIGINT NOT NULL,
    records BLOB NOT NULL,
    personal BLOB NOT NULL
);
CREATE INDEX ledger_by_time ON ledger (trust_domain, first_ms, last_ms);
