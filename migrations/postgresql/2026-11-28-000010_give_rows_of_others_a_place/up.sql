-- An application that knows neither topic nor seq may still insert rows: each gets a seq of its own, so
-- that the unique index does not refuse the second. Slackir makes messages of them when it starts.
ALTER TABLE messages ALTER COLUMN seq SET DEFAULT -1 - (random() * 9e18)::bigint;

-- Rows that were copied with their ids have left the sequence behind.
SELECT setval(ids, greatest((SELECT max(id) FROM messages), nextval(ids)))
FROM CAST(pg_get_serial_sequence('messages', 'id') AS regclass) AS ids;
