-- How the table `messages` differs from the one that Ecto makes for the tutorial application.
WITH this (oid) AS (SELECT to_regclass('messages')),
    columns AS (
        SELECT attname::text AS name, atttypid AS type, format_type(atttypid, atttypmod) AS type_name
        FROM pg_attribute JOIN this ON attrelid = oid WHERE attnum > 0 AND NOT attisdropped
    ),
    wanted (name, types, type_name) AS (VALUES
        ('id', '{int4,int8}'::regtype[], 'bigint'),
        ('name', '{varchar,text}', 'text'),
        ('message', '{varchar,text}', 'text'),
        ('inserted_at', '{timestamp}', 'timestamp without time zone'),
        ('updated_at', '{timestamp}', 'timestamp without time zone')
    )
SELECT 'it is no ordinary table' AS words FROM pg_class JOIN this USING (oid) WHERE relkind <> 'r'
UNION ALL
SELECT 'it has no column ' || name FROM wanted WHERE name NOT IN (SELECT name FROM columns)
UNION ALL
SELECT 'its column ' || name || ' is of type ' || columns.type_name || ' and not ' || wanted.type_name
    FROM columns JOIN wanted USING (name) WHERE type <> ALL (types)
UNION ALL
SELECT 'its primary key is not id' FROM this WHERE NOT EXISTS (
    SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
    WHERE indrelid = oid AND indisprimary AND indnkeyatts = 1 AND attname = 'id')
UNION ALL
SELECT 'it has one more column, ' || name FROM columns WHERE name NOT IN (SELECT name FROM wanted)
UNION ALL
SELECT 'it has the constraint ' || conname FROM pg_constraint JOIN this ON conrelid = this.oid
    WHERE contype IN ('c', 'f', 'u', 'x')
UNION ALL
SELECT 'its index ' || indexrelid::regclass || ' is unique' FROM pg_index JOIN this ON indrelid = oid
    WHERE indisunique AND NOT indisprimary
UNION ALL
SELECT 'the table ' || conrelid::regclass || ' refers to it' FROM pg_constraint JOIN this ON confrelid = this.oid
    WHERE contype = 'f'
