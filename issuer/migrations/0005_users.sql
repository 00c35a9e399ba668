-- Tasks on behalf of users. A build that does not know these would resume what is suspended because its user is, and begin tasks
-- for users who have logged out; it may not use the store.
ALTER TABLE tasks ADD COLUMN user_provider TEXT;
ALTER TABLE tasks ADD COLUMN user_subject TEXT;
-- The session that the user's token named.
ALTER TABLE tasks ADD COLUMN user_session TEXT;
-- When the user's token was issued, Unix seconds.
ALTER TABLE tasks ADD COLUMN user_token_at BIGINT;
-- Whether it is suspended because its user is, or has logged out.
ALTER TABLE tasks ADD COLUMN halted BIGINT NOT NULL DEFAULT 0;
CREATE INDEX tasks_by_user ON tasks (trust_domain, user_provider, user_subject) WHERE user_provider IS NOT NULL;
CREATE INDEX tasks_by_session ON tasks (trust_domain, user_provider, user_session) WHERE user_session IS NOT NULL;

-- Users who may not begin tasks, by any token or by older ones.
CREATE TABLE task_users (
    trust_domain TEXT NOT NULL,
    provider TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- Whether an administrator suspended the user.
    suspended BIGINT NOT NULL DEFAULT 0,
    -- No token that was issued until then is taken, Unix seconds; and none that names no session.
    logged_out_at BIGINT NOT NULL DEFAULT 0,
    sessionless_out_at BIGINT NOT NULL DEFAULT 0,
    -- When no token can be about any more that this is about.
    forget_at BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, provider, subject)
);

-- Sessions that have ended, until no token of them can be about any more.
CREATE TABLE task_sessions (
    trust_domain TEXT NOT NULL,
    provider TEXT NOT NULL,
    session TEXT NOT NULL,
    forget_at BIGINT NOT NULL,
    PRIMARY KEY (trust_domain, provider, session)
);

UPDATE schema_info SET version = 5, oldest_reader = 5;
