-- How the table `messages` differs from the one that Ecto makes for the tutorial application.
WITH columns AS (SELECT lower(name) AS name, upper(type) AS type, pk FROM pragma_table_xinfo('messages')),
    wanted (name) AS (VALUES ('id'), ('name'), ('message'), ('inserted_at'), ('updated_at'))
SELECT 'it is a ' || type AS words FROM sqlite_master WHERE lower(name) = 'messages' AND type = 'view'
UNION ALL
SELECT 'it has no column ' || name FROM wanted WHERE name NOT IN (SELECT name FROM columns)
UNION ALL
SELECT 'its column ' || name || ' is of type ' || type || ' and not INTEGER' FROM columns
    WHERE name = 'id' AND type <> 'INTEGER'
UNION ALL
SELECT 'its primary key is not id' WHERE (SELECT group_concat(name) FROM columns WHERE pk > 0) IS NOT 'id'
UNION ALL
SELECT 'its column ' || name || ' is of type ' || type || ' and not TEXT' FROM columns
    WHERE name IN ('name', 'message') AND type NOT LIKE '%CHAR%' AND type NOT LIKE '%TEXT%'
UNION ALL
SELECT 'its column ' || name || ' is of type ' || type || ' and no time' FROM columns
    WHERE name IN ('inserted_at', 'updated_at')
        AND type NOT LIKE '%TEXT%' AND type NOT LIKE '%DATE%' AND type NOT LIKE '%TIME%'
UNION ALL
SELECT 'it has one more column, ' || name FROM columns WHERE name NOT IN (SELECT name FROM wanted)
UNION ALL
SELECT 'it has a CHECK' FROM sqlite_master WHERE lower(name) = 'messages' AND upper(sql) LIKE '%CHECK%(%'
UNION ALL
SELECT 'its index ' || name || ' is unique' FROM pragma_index_list('messages')
    WHERE "unique" AND origin <> 'pk'
UNION ALL
SELECT 'it refers to the table ' || "table" FROM pragma_foreign_key_list('messages')
UNION ALL
SELECT 'the table ' || tables.name || ' refers to it'
    FROM sqlite_master AS tables, pragma_foreign_key_list(tables.name) AS keys
    WHERE tables.type = 'table' AND lower(keys."table") = 'messages'
