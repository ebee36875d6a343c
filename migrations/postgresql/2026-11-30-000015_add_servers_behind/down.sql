ALTER TABLE servers DROP COLUMN behind;
