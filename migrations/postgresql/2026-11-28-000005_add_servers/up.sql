-- The servers that use this database, each with the time of its last sign of life. (A SQLite file has one
-- server, and no such table.)
CREATE TABLE servers (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
);
