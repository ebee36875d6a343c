-- The users and tokens that the server refuses. kind is 'user' or 'token'; subject is the user's id or the token's
-- jti. Tokens of a user that were issued before not_before are refused until ends; both are microseconds since 1970.
CREATE TABLE revocations (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
);
