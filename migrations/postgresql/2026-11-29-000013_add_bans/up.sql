-- The users and addresses that may not connect (kind 'ban') or not write (kind 'mute') until ends. target is 'user' or
-- 'address'; subject is the user's id, or an address or network as text. since and ends are microseconds since 1970.
CREATE TABLE bans (
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    subject TEXT NOT NULL,
    id TEXT NOT NULL,
    since BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    PRIMARY KEY (kind, target, subject)
);
