-- What gives the messages of each cluster their order: Redis in an era with an even number, the database in the others.
CREATE TABLE cluster_eras (
    cluster TEXT NOT NULL PRIMARY KEY,
    era BIGINT NOT NULL DEFAULT 0
);
-- How long the node has been without what carries messages between the nodes, in milliseconds.
ALTER TABLE servers ADD COLUMN bus_away_ms BIGINT NOT NULL DEFAULT 0;
-- How often the node has come to it: an older sign of life does not change bus_up and bus_away_ms.
ALTER TABLE servers ADD COLUMN entrances BIGINT NOT NULL DEFAULT 0;
