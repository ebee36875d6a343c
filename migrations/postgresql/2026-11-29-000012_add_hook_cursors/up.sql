-- How far the backend of [hook] has taken what it is told: the id of the last row of `messages` that it has
-- taken, or that needs no notice.
CREATE TABLE hook_cursors (
    name TEXT PRIMARY KEY NOT NULL,
    row_id BIGINT NOT NULL
);
