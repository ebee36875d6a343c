-- The topics in which each person may send one message in so many seconds, until ends; NULL: until it is taken away.
-- since and ends are microseconds since 1970.
CREATE TABLE slow_modes (
    topic TEXT NOT NULL PRIMARY KEY,
    seconds BIGINT NOT NULL,
    since BIGINT NOT NULL,
    ends BIGINT
);
