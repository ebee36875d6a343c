-- A client's own name for its message, which is stored once in its topic.
ALTER TABLE messages ADD COLUMN client_ref TEXT;
-- The seq of the message that this row has updated or deleted; NULL for a message.
ALTER TABLE messages ADD COLUMN target BIGINT;

CREATE UNIQUE INDEX messages_topic_client_ref ON messages (topic, client_ref)
    WHERE client_ref IS NOT NULL;
-- The client_refs of the last minutes are read when a topic is opened.
CREATE INDEX messages_recent_client_refs ON messages (topic, inserted_at)
    WHERE client_ref IS NOT NULL;

-- The run of each topic's sequence. Retention walks (topic, seq), whose order is that of time.
CREATE TABLE topics (
    topic TEXT PRIMARY KEY NOT NULL,
    epoch BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    pruned_through BIGINT NOT NULL DEFAULT 0,
    clean BOOLEAN NOT NULL
);
