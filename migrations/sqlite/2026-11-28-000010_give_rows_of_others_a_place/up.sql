-- An application that knows neither topic nor seq may still insert rows: each gets a seq of its own, so
-- that the unique index does not refuse the second. Slackir makes messages of them when it starts.
CREATE TRIGGER messages_of_others AFTER INSERT ON messages WHEN NEW.topic = '' AND NEW.seq = 0
BEGIN
    UPDATE messages SET seq = -NEW.id WHERE id = NEW.id;
END;
