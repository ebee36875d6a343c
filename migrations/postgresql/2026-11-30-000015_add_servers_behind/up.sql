-- Whether the server has messages that it cannot save at the moment.
ALTER TABLE servers ADD COLUMN behind BOOLEAN NOT NULL DEFAULT FALSE;
