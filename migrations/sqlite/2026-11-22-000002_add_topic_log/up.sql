-- The topic log: where a message was sent, the whole of it, and its place in the topic.
ALTER TABLE messages ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN event TEXT NOT NULL DEFAULT 'shout';
ALTER TABLE messages ADD COLUMN payload TEXT NOT NULL DEFAULT '{}';
ALTER TABLE messages ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;

-- Messages of the seed were shouts in its one room.
UPDATE messages
SET topic = 'random:lobby',
    payload = json_object('name', name, 'message', message),
    seq = id;

-- A seq is given once: two servers on one database would be noticed here.
CREATE UNIQUE INDEX messages_topic_seq ON messages (topic, seq);
