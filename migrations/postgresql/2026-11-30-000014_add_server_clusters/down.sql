ALTER TABLE servers DROP COLUMN bus_up;
ALTER TABLE servers DROP COLUMN cluster;
