-- Tasks of agents. A build that does not know this table would let what is below a task live on, so it may not use the store.
CREATE TABLE tasks (
    trust_domain TEXT NOT NULL,
    id BLOB NOT NULL,
    root BLOB NOT NULL,
    -- NULL: it is the root.
    parent BLOB,
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The task whose suspension this one is under.
    suspended_by BLOB,
    deadline BIGINT NOT NULL,
    -- JSON.
    document TEXT NOT NULL,
    PRIMARY KEY (trust_domain, id)
);
CREATE INDEX tasks_by_parent ON tasks (trust_domain, parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (trust_domain, deadline) WHERE state NOT IN ('open', 'suspended');
UPDATE schema_info SET version = 3, oldest_reader = 3;
