ALTER TABLE servers DROP COLUMN entrances;
ALTER TABLE servers DROP COLUMN bus_away_ms;
DROP TABLE cluster_eras;
