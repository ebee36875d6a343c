DROP INDEX messages_topic_seq;
ALTER TABLE messages DROP COLUMN seq;
ALTER TABLE messages DROP COLUMN payload;
ALTER TABLE messages DROP COLUMN event;
ALTER TABLE messages DROP COLUMN topic;
