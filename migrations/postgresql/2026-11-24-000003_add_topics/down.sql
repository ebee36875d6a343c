DROP TABLE topics;
DROP INDEX messages_recent_client_refs;
DROP INDEX messages_topic_client_ref;
-- Without its target a change would be a message.
DELETE FROM messages WHERE target IS NOT NULL;
ALTER TABLE messages DROP COLUMN target;
ALTER TABLE messages DROP COLUMN client_ref;
