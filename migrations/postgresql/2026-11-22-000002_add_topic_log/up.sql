-- The topic log: where a message was sent, the whole of it, and its place in the topic.
-- The payload is TEXT: jsonb refuses \u0000 and would reorder what people wrote.
ALTER TABLE messages
    ADD COLUMN topic TEXT NOT NULL DEFAULT '',
    ADD COLUMN event TEXT NOT NULL DEFAULT 'shout',
    ADD COLUMN payload TEXT NOT NULL DEFAULT '{}',
    ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;

-- Messages of the seed were shouts in its one room.
UPDATE messages
SET topic = 'random:lobby',
    payload = json_build_object('name', name, 'message', message)::text,
    seq = id;

-- A seq is given once: two servers that write to one topic are noticed here.
CREATE UNIQUE INDEX messages_topic_seq ON messages (topic, seq);
