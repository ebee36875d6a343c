//! The bounds of the library: of connections, topics and HTTP.

use crate::Row;

pub(crate) const ROWS: &[Row] = &[
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
        "a message over the bridge to a Phoenix application",
        &[
            ("1 MB", "src/cluster/phoenix.rs", "const MAX_SIZE: usize = "),
            ("128", "src/token/term/mod.rs", "const MAX_DEPTH: usize = "),
        ],
    ),
    (
        "journal that waits for the first history of a topic",
        &[
            (
                "256 kB",
                "src/pubsub/cluster/joint.rs",
                "const BEGUN_BYTES: usize = ",
            ),
            (
                "1 s",
                "src/pubsub/cluster/joint.rs",
                "const BEGUN: Duration = ",
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
