//! Keeps the numbers of ARCHITECTURE.md's table of bounds those of the code.

use std::fs;
use std::path::Path;

/// For each row, its numbers: as the table writes them, and where the code has them, by file and by what
/// stands before the value.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
);

const ROWS: &[Row] = &[
    (
        "outbox of a connection",
        &[
            ("1 MB", "src/outbox.rs", "            bytes: "),
            ("10,000", "src/outbox.rs", "            frames: "),
            ("2 s", "src/outbox.rs", "const GRACE: Duration = "),
        ],
    ),
    (
        "outboxes of all connections",
        &[
            ("1 GB", "src/outbox.rs", "const TOTAL_BYTES: isize = "),
            ("64 kB", "src/outbox.rs", "const CROWDED_BYTES: usize = "),
        ],
    ),
    ("what a client asks for itself", &[]),
    (
        "in flight from a connection to its channels",
        &[
            ("1,024", "src/flow.rs", "            messages: "),
            ("4 MB", "src/flow.rs", "            bytes: "),
        ],
    ),
    (
        "in flight from all connections",
        &[
            ("256 MB", "src/flow.rs", "const TOTAL_BYTES: isize = "),
            ("16 kB", "src/flow.rs", "const CROWDED_BYTES: usize = "),
        ],
    ),
    ("a connection that is not read", &[]),
    (
        "broadcasts that wait for a channel (intercepted, other topics)",
        &[
            ("1,024", "src/channel/link.rs", "const BACKLOG: usize = "),
            (
                "8 MB",
                "src/channel/link.rs",
                "const BACKLOG_BYTES: usize = ",
            ),
        ],
    ),
    (
        "broadcasts that wait for all channels",
        &[
            (
                "256 MB",
                "src/channel/link.rs",
                "const TOTAL_BYTES: isize = ",
            ),
            (
                "64 kB",
                "src/channel/link.rs",
                "const CROWDED_BYTES: usize = ",
            ),
        ],
    ),
    (
        "broadcasts that wait for a `Listener`",
        &[
            ("1,024", "src/pubsub/listener.rs", "const BACKLOG: usize = "),
            (
                "64 MB",
                "src/pubsub/listener.rs",
                "const BACKLOG_BYTES: usize = ",
            ),
        ],
    ),
    (
        "inbox of a worker",
        &[(
            "64 MB",
            "src/pubsub/worker.rs",
            "const INBOX_BYTES: usize = ",
        )],
    ),
    (
        "DbWriter",
        &[
            ("100,000", "src/server/config/serve.rs", "pub writer_rows"),
            ("64 MB", "src/server/config/serve.rs", "pub writer_bytes"),
        ],
    ),
    (
        "DbWriter while the database is away",
        &[
            ("256 MB", "src/server/config/serve.rs", "pub spool_bytes"),
            (
                "1,000,000",
                "src/store/write/capacity.rs",
                "const SPOOLED_ROWS: usize = ",
            ),
        ],
    ),
    (
        "tail of a topic",
        &[
            ("1,000", "src/log/rule.rs", "const TAIL: usize = "),
            ("900 kB", "src/log/rule.rs", "const TAIL_BYTES: usize = "),
        ],
    ),
    (
        "tails of all topics",
        &[
            (
                "256 MB",
                "src/log/tail_bytes.rs",
                "const TAILS_BYTES: isize = ",
            ),
            (
                "16 kB",
                "src/log/tail_bytes.rs",
                "const CROWDED_BYTES: usize = ",
            ),
        ],
    ),
    (
        "resume",
        &[
            ("10,000", "src/log/rule.rs", "const RESUME_LIMIT: usize = "),
            ("500", "src/log/mod.rs", "const PAGE_ROWS: usize = "),
            ("250 kB", "src/log/mod.rs", "const PAGE_BYTES: usize = "),
        ],
    ),
    (
        "client_refs in memory, of all topics",
        &[
            ("10 minutes", "src/log/refs.rs", "const WINDOW: Duration = "),
            ("500,000", "src/log/refs.rs", "const MAX_REFS: usize = "),
        ],
    ),
    (
        "presences of a `Presence`",
        &[
            (
                "64 kB",
                "src/presence/mod.rs",
                "const MAX_PRESENCE_BYTES: usize = ",
            ),
            ("64 MB", "src/presence/mod.rs", "const MAX_BYTES: usize = "),
        ],
    ),
    (
        "messages over a rate",
        &[("100", "src/flow.rs", "const MAX_REFUSALS: u32 = ")],
    ),
    (
        "new connections of one address",
        &[(
            "500",
            "src/admission/mod.rs",
            "const CONNECTS_BURST: u32 = ",
        )],
    ),
    (
        "buckets of the users, topics or addresses of one limit",
        &[],
    ),
    (
        "rows that one transaction of retention deletes",
        &[(
            "1,000",
            "src/store/tables/remove.rs",
            "const MAX_ROWS: usize = ",
        )],
    ),
    (
        "topics without members",
        &[
            (
                "5 minutes",
                "src/pubsub/idle.rs",
                "const IDLE_TOPIC: Duration = ",
            ),
            (
                "10,000",
                "src/pubsub/idle.rs",
                "const MAX_IDLE_TOPICS: usize = ",
            ),
            (
                "64 MB",
                "src/pubsub/idle.rs",
                "const MAX_IDLE_BYTES: usize = ",
            ),
        ],
    ),
    (
        "fragments of a message",
        &[
            (
                "65,536",
                "src/transport/frame_scanner.rs",
                "const MAX_FRAGMENTS: u32 = ",
            ),
            (
                "8 MB",
                "src/transport/reader.rs",
                "const MAX_MESSAGE_SIZE: usize = ",
            ),
        ],
    ),
    (
        "bytes that a thread compresses",
        &[("16 MB", "src/deflate.rs", "const BYTES_PER_SECOND: u32 = ")],
    ),
    (
        "a compressed message, once inflated",
        &[("64", "src/deflate.rs", "const MAX_FINAL_BLOCKS: usize = ")],
    ),
    (
        "unfinished messages, TLS records, long-poll bodies and heads of requests, of all clients",
        &[
            (
                "64 MB",
                "src/transport/unfinished.rs",
                "const UNFINISHED_BYTES: usize = ",
            ),
            (
                "4 kB",
                "src/transport/unfinished.rs",
                "const UNCOUNTED: usize = ",
            ),
        ],
    ),
    (
        "a message, from its first byte to its last",
        &[("60 s", "src/socket/mod.rs", "            message_timeout: ")],
    ),
    (
        "`ref` and `join_ref` of a message",
        &[("255", "src/message.rs", "const MAX_REF_LEN: usize = ")],
    ),
    (
        "joins of a connection",
        &[
            ("500", "src/server/config/serve.rs", "pub joins_per_second"),
            ("2,000", "src/server/config/serve.rs", "pub joins_burst"),
        ],
    ),
    (
        "messages of a connection",
        &[
            (
                "5,000",
                "src/server/config/serve.rs",
                "pub pushes_per_second",
            ),
            ("20,000", "src/server/config/serve.rs", "pub pushes_burst"),
        ],
    ),
    (
        "bytes of a connection's messages",
        &[
            (
                "10 MB",
                "src/server/config/serve.rs",
                "pub bytes_per_second",
            ),
            ("100 MB", "src/server/config/serve.rs", "pub bytes_burst"),
        ],
    ),
    (
        "keys of a payload that are remembered",
        &[(
            "10,000",
            "src/serializer/first_keys.rs",
            "const MANY: usize = ",
        )],
    ),
    (
        "lines of a long-poll request",
        &[
            (
                "1,000",
                "src/transport/longpoll_server.rs",
                "const MAX_LINES: usize = ",
            ),
            (
                "8 MB",
                "src/transport/longpoll.rs",
                "const MAX_BODY: usize = ",
            ),
        ],
    ),
    (
        "channels of a connection",
        &[("100", "src/server/config/serve.rs", "pub max_channels")],
    ),
    (
        "body of a request to the API",
        &[("10 MB", "src/server/config/serve.rs", "pub max_frame_size")],
    ),
    (
        "page of the API",
        &[
            (
                "1,000",
                "src/server/api/listing.rs",
                "const MAX_LIMIT: usize = ",
            ),
            ("4 MB", "src/store/reader.rs", "const PAGE_BYTES: usize = "),
        ],
    ),
    (
        "kernel send buffer",
        &[
            (
                "128 kB",
                "src/transport/tcp.rs",
                "const SEND_BUFFER: usize = ",
            ),
            (
                "30 s",
                "src/transport/tcp.rs",
                "const USER_TIMEOUT: Duration = ",
            ),
        ],
    ),
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
        "topics in slow mode",
        &[(
            "10,000",
            "src/slow_mode.rs",
            "const MAX_SLOW_MODES: usize = ",
        )],
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
    (
        "head of a request",
        &[
            (
                "32 kB",
                "src/transport/edge/incoming.rs",
                "const MAX_HEAD: usize = ",
            ),
            (
                "10 s",
                "src/transport/edge/mod.rs",
                "const HEAD_TIMEOUT: Duration = ",
            ),
        ],
    ),
    (
        "a TLS handshake",
        &[
            (
                "10 s",
                "src/transport/edge/mod.rs",
                "const HEAD_TIMEOUT: Duration = ",
            ),
            (
                "32 kB",
                "src/transport/tls/session.rs",
                "const MAX_HANDSHAKE: usize = ",
            ),
        ],
    ),
    (
        "ciphertext that the kernel has not taken, of a connection",
        &[(
            "32 kB",
            "src/transport/tls/session.rs",
            "const WRITE_SIZE: usize = ",
        )],
    ),
    (
        "what is read behind a request that is being answered",
        &[(
            "16 kB",
            "src/transport/edge/incoming.rs",
            "const HEAD_READ: usize = ",
        )],
    ),
    (
        "rest of an HTTP connection between two requests",
        &[(
            "75 s",
            "src/transport/direct/mod.rs",
            "            keep_alive: ",
        )],
    ),
    (
        "body of a request",
        &[(
            "60 s",
            "src/transport/edge/mod.rs",
            "const BODY_PATIENCE: Duration = ",
        )],
    ),
    (
        "answer to a request",
        &[(
            "30 s",
            "src/transport/edge/mod.rs",
            "const ANSWER_PATIENCE: Duration = ",
        )],
    ),
    (
        "pings and pongs read in one turn",
        &[(
            "64",
            "src/transport/reader.rs",
            "const FRAMES_A_TURN: usize = ",
        )],
    ),
    (
        "WebSocket connections and long-poll sessions of the server",
        &[(
            "50,000",
            "src/server/config/serve.rs",
            "pub max_connections:",
        )],
    ),
    (
        "WebSocket connections and long-poll sessions of one address (/64 of IPv6), and as many streams",
        &[("1,000", "src/admission/mod.rs", "            max: ")],
    ),
    (
        "a long-poll session that is not polled",
        &[(
            "5 s",
            "src/transport/longpoll_server.rs",
            "const FIRST_POLL: Duration = ",
        )],
    ),
    (
        "files of all streams",
        &[(
            "64",
            "src/server/run/http.rs",
            "const FILES_KEPT_BACK: usize = ",
        )],
    ),
    (
        "WebSocket connections, and HTTP connections, of a worker under `direct::serve`",
        &[(
            "25,600",
            "src/transport/direct/mod.rs",
            "            max_connections: ",
        )],
    ),
];

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The table's rows: what is bounded, and by how much.
fn table(text: &str) -> Vec<(&str, &str)> {
    let section = text.split("\n## Bounds\n").nth(1).expect("a section");
    let section = section.split("\n## ").next().expect("its text");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cells = rows.skip(1).map(|row| {
        let mut cells = row.split(" | ");
        let name = cells.next().expect("a name").trim_start_matches("| ");
        (name, cells.next().expect("a bound"))
    });
    cells.filter(|(name, _)| !name.starts_with("---")).collect()
}

/// What a number of the table means: bytes, milliseconds, or a count. kB may be 1,024 bytes each.
fn meant(number: &str) -> Vec<u64> {
    let (digits, unit) = number.split_once(' ').unwrap_or((number, ""));
    let count: u64 = digits.replace(',', "").parse().expect("a number");
    let factors: &[u64] = match unit {
        "" => &[1],
        "kB" => &[1_000, 1_024],
        "MB" => &[1_000_000],
        "GB" => &[1_000_000_000],
        "ms" => &[1],
        "s" => &[1_000],
        "million" => &[1_000_000],
        "minutes" => &[60_000],
        other => panic!("{other} is no unit"),
    };
    factors.iter().map(|factor| count * factor).collect()
}

/// The value behind `place`; of a setting, its default.
fn value(source: &str, place: &str) -> Option<u64> {
    const DEFAULTS: [&str; 2] = ["default_value_t = ", "default_value = \""];
    let at = source.find(place)?;
    let expression = if place.starts_with("pub ") {
        let before = &source[..at];
        let found = DEFAULTS.iter().filter_map(|name| {
            let at = before.rfind(name)?;
            Some(at + name.len())
        });
        &source[found.max()?..]
    } else {
        &source[at + place.len()..]
    };
    let expression = expression.split([';', '\n']).next()?;
    let expression = expression.split(", value").next()?;
    let unit = if expression.contains("from_secs") {
        1_000
    } else {
        1
    };
    let numbers = expression.split(|c: char| !c.is_ascii_digit() && c != '_');
    let numbers = numbers.filter_map(|digits| digits.replace('_', "").parse::<u64>().ok());
    numbers
        .reduce(|product, number| product * number)
        .map(|number| number * unit)
}

#[test]
fn the_table_of_bounds_has_the_numbers_of_the_code() {
    let text = read("ARCHITECTURE.md");
    let table = table(&text);
    for (name, _) in &table {
        assert!(
            ROWS.iter().any(|(row, _)| row == name),
            "{name:?} is not compared with the code"
        );
    }
    for (name, numbers) in ROWS {
        let row = table.iter().find(|(row, _)| row == name);
        let (_, bound) = row.unwrap_or_else(|| panic!("the table has no row {name:?}"));
        for (number, file, place) in *numbers {
            assert!(
                bound.contains(number),
                "{name}: {bound:?} should say {number}"
            );
            let found = value(&read(file), place);
            let found = found.unwrap_or_else(|| panic!("{file} has no {place:?}"));
            assert!(
                meant(number).contains(&found),
                "{name}: the table says {number}, {file} says {found}"
            );
        }
    }
}
