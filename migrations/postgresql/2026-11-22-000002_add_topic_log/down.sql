DROP INDEX messages_topic_seq;
ALTER TABLE messages
    DROP COLUMN seq,
    DROP COLUMN payload,
    DROP COLUMN event,
    DROP COLUMN topic;
