-- The key of a node's machine certificate: a ban holds for every certificate of that key. A build that does not know this column bans
-- certificates alone; it may use the store.
ALTER TABLE nodes ADD COLUMN machine_key_sha256 BLOB;
CREATE INDEX nodes_by_machine_key ON nodes (trust_domain, machine_key_sha256);
UPDATE schema_info SET version = 7;
