-- The cluster whose node a server is; NULL for a server alone. Nodes of one cluster share the database.
ALTER TABLE servers ADD COLUMN cluster TEXT;
-- Whether the node reaches what carries messages between the nodes.
ALTER TABLE servers ADD COLUMN bus_up BOOLEAN NOT NULL DEFAULT FALSE;
