-- Where the runs before the present one have ended, oldest first: the ids of their last messages, as
-- clients know them, with a space between. Clients resume from ids of these runs as far as they went,
-- but not over one that is marked with ~, which has lost messages.
ALTER TABLE topics ADD COLUMN past TEXT NOT NULL DEFAULT '';
-- An import of the topic has begun and not come to its end.
ALTER TABLE topics ADD COLUMN importing BOOLEAN NOT NULL DEFAULT FALSE;
