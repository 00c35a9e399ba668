-- Policies of tasks, what becomes of begins that are refused, and tasks of nodes that are silent. A build that does not know
-- these would begin tasks that a policy forbids, and resume what is suspended for two reasons; it may not use the store.
CREATE TABLE policies (
    trust_domain TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    -- JSON: the files. NULL: the set was deleted by the newest change of any set.
    document TEXT,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, name)
);

-- Begins and renewals that were refused, the newest ones.
CREATE TABLE task_refusals (
    trust_domain TEXT NOT NULL,
    -- The id of the ledger's record of it; its first 48 bits are the time.
    id BLOB NOT NULL,
    -- JSON.
    document TEXT NOT NULL,
    PRIMARY KEY (trust_domain, id)
);

-- Why it was begun, JSON; NULL in tasks of older builds.
ALTER TABLE tasks ADD COLUMN decision TEXT;
-- Whether its node has been silent for too long since its instance was last known to live.
ALTER TABLE tasks ADD COLUMN silent BIGINT NOT NULL DEFAULT 0;

-- For how long nodes that have tasks have been silent while an issuer ran.
CREATE TABLE node_silences (
    trust_domain TEXT NOT NULL,
    node TEXT NOT NULL,
    silent_s BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, node)
);

UPDATE schema_info SET version = 4, oldest_reader = 4;
