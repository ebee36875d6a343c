//! The bounds of the server: of rooms, the hook, revocations, the database, the dashboard and log lines.

use crate::Row;

pub(crate) const ROWS: &[Row] = &[
    (
        "a message that a member sends to everybody",
        &[(
            "1 MB",
            "src/server/config/rooms.rs",
            "const MAX_MESSAGE_BYTES: usize = ",
        )],
    ),
    (
        "a template of a room",
        &[
            (
                "4,096",
                "src/server/language/template/mod.rs",
                "const MAX_TEXT: usize = ",
            ),
            (
                "64",
                "src/server/language/template/mod.rs",
                "const MAX_MEMBERS: usize = ",
            ),
            (
                "8",
                "src/server/language/template/mod.rs",
                "const MAX_STEPS: usize = ",
            ),
        ],
    ),
    ("what a template makes", &[]),
    (
        "calls of the hook that are out",
        &[
            (
                "64",
                "src/server/config/hook.rs",
                "const IN_FLIGHT: usize = ",
            ),
            (
                "2 s",
                "src/server/config/hook.rs",
                "const TIMEOUT: Duration = ",
            ),
        ],
    ),
    (
        "an answer of the hook",
        &[
            (
                "1,024 kB",
                "src/server/hook/answer.rs",
                "const MAX_BYTES: usize = ",
            ),
            (
                "32",
                "src/server/hook/answer.rs",
                "const MAX_ACTIONS: usize = ",
            ),
        ],
    ),
    (
        "notices about members that wait for the backend",
        &[
            (
                "10,000",
                "src/server/told/teller.rs",
                "const MAX_QUEUE: usize = ",
            ),
            (
                "16 MB",
                "src/server/told/teller.rs",
                "const MAX_QUEUE_BYTES: usize = ",
            ),
        ],
    ),
    (
        "a batch of notices",
        &[
            (
                "100",
                "src/server/told/task.rs",
                "const MAX_NOTICES: usize = ",
            ),
            (
                "1 MB",
                "src/server/told/task.rs",
                "const MAX_BATCH_BYTES: usize = ",
            ),
            (
                "250 ms",
                "src/server/told/task.rs",
                "const WINDOW: Duration = ",
            ),
        ],
    ),
    (
        "refused joins that `deny_cache` remembers",
        &[
            (
                "10,000",
                "src/server/hook/deny.rs",
                "const MAX_ENTRIES: usize = ",
            ),
            (
                "1 kB",
                "src/server/hook/deny.rs",
                "const MAX_ERROR: usize = ",
            ),
        ],
    ),
    (
        "an identity, and what is remembered of a member",
        &[
            (
                "16 kB",
                "src/server/rooms/identity.rs",
                "const MAX_BYTES: usize = ",
            ),
            (
                "16 kB",
                "src/server/rooms/member.rs",
                "const MAX_BYTES: usize = ",
            ),
        ],
    ),
    (
        "revocations of users and tokens",
        &[(
            "100,000",
            "src/revocation.rs",
            "const MAX_REVOCATIONS: usize = ",
        )],
    ),
    (
        "bans and mutes of users and addresses",
        &[("100,000", "src/ban.rs", "const MAX_BANS: usize = ")],
    ),
    (
        "a JSON Web Token, and the keys of its issuer",
        &[
            (
                "16 kB",
                "src/server/jwt/verify.rs",
                "const MAX_TOKEN: usize = ",
            ),
            ("100", "src/server/jwt/jwks.rs", "const MAX_KEYS: usize = "),
            ("256 kB", "src/server/jwks.rs", "const MAX_BYTES: usize = "),
            ("2 s", "src/server/jwks.rs", "const TIMEOUT: Duration = "),
            (
                "30 s",
                "src/server/jwt/cache.rs",
                "const PAUSE: Duration = ",
            ),
        ],
    ),
    (
        "page of `messages_before`",
        &[("250 kB", "src/log/mod.rs", "const PAGE_BYTES: usize = ")],
    ),
    (
        "messages in the page of the browser",
        &[
            ("2,000", "assets/app.js", "const MAX_MESSAGES = "),
            ("10 million", "assets/app.js", "const MAX_CHARACTERS = "),
            ("10,000", "assets/app.js", "const SHOWN_CHARACTERS = "),
            ("100", "assets/app.js", "const SHOWN_LINES = "),
        ],
    ),
    (
        "SQLite's write-ahead log",
        &[(
            "32 MB",
            "src/store/backend/checkpoint.rs",
            "const TOO_LONG: u64 = ",
        )],
    ),
    (
        "runs of a topic that are remembered",
        &[("100", "src/log/past.rs", "const MAX_RUNS: usize = ")],
    ),
    (
        "spans that wait for the collector",
        &[(
            "4,096",
            "src/server/traces/otlp.rs",
            "const QUEUE: usize = ",
        )],
    ),
    (
        "points of the dashboard's charts",
        &[(
            "600",
            "src/server/dashboard/history.rs",
            "const MAX_POINTS: usize = ",
        )],
    ),
    (
        "warnings and errors that the dashboard shows",
        &[(
            "200",
            "src/server/telemetry/trouble.rs",
            "const MAX_ENTRIES: usize = ",
        )],
    ),
    (
        "open dashboards; requests of one at once",
        &[
            (
                "100",
                "src/server/dashboard/socket.rs",
                "const MAX_SOCKETS: usize = ",
            ),
            (
                "8",
                "src/server/dashboard/channel.rs",
                "const MAX_RUNNING: usize = ",
            ),
        ],
    ),
    (
        "messages of a tail on the dashboard",
        &[(
            "200",
            "src/server/dashboard/tail.rs",
            "const MAX_PER_SECOND: u32 = ",
        )],
    ),
    (
        "log lines that wait for standard error",
        &[(
            "4,096",
            "src/server/telemetry/queue.rs",
            "const MAX_LINES: usize = ",
        )],
    ),
    (
        "log lines of one kind",
        &[
            (
                "20",
                "src/server/telemetry/repeats.rs",
                "const MAX_REPEATS: u32 = ",
            ),
            (
                "10 s",
                "src/server/telemetry/repeats.rs",
                "const WINDOW: Duration = ",
            ),
        ],
    ),
];
