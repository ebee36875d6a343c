//! Instructions of the hot path, which no busy machine makes more: a bench that needs a tenth more
//! than when it was measured fails `scripts/test`.
//!
//! `scripts/instructions` runs this alone and needs valgrind. Where a bench is over its limit, find
//! out what became dearer (`callgrind_annotate` of its file in `target/gungraun` names the
//! functions). If it is worth that, `scripts/instructions --measure` writes the new counts into the
//! table below; its change belongs to the commit that is the reason, and the reason into its message.
//! The same after something became cheaper, so that it stays cheap, and when a new compiler or C
//! library has moved the counts.
//!
//! What is warm in a server is warm here: each setup has done once what is then counted.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "what gungraun's macros write is not for readers"
)]

use std::hint::black_box;

use actix_rt::SystemRunner;
use bytes::Bytes;
use bytestring::ByteString;
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use serde_json::json;
use slackir::bench::{self, Member, Queue, Room, ServerFrame, Version};
use slackir::channel::{Channel, Context, Join, JoinResult};
use slackir::message::{Message, Payload, Reply};
use slackir::presence::Presence;
use slackir::pubsub::{Draft, PubSub};
use slackir::server::rooms::{self, Identity, UserSocket};
use slackir::socket::{ConnectInfo, ConnectRefused, Params, Socket, SocketRouter};
use slackir::testing::TestSocket;
use slackir::{Assigns, Endpoint, Mount};

/// What each bench needed when it was measured. Joining and leaving must not depend on the number
/// of members.
const MEASURED: &[(&str, u64)] = &[
    ("decode::v1_text", 5_256),
    ("decode::v2_text", 4_152),
    ("decode_binary::v2", 1_813),
    ("reply::v1", 920),
    ("reply::v2", 938),
    ("push::v1", 796),
    ("push::v2", 831),
    ("broadcast::v1", 1_067),
    ("broadcast::v2", 1_101),
    ("decode_frames::of_100_bytes", 1_013),
    ("decode_frames::of_16_kib", 28_129),
    ("server_frame::of_100_bytes", 238),
    ("queue_and_write::frames_100", 23_056),
    ("queue_and_take_lone::frames_100", 28_624),
    ("join_and_leave::among_10", 735),
    ("join_and_leave::among_19_000", 735),
    ("fan_out::to_1_000", 106_790),
    ("converse::plain_100", 1_522_959),
    ("converse::stamped_100", 2_035_601),
    ("converse::echoes_100", 1_101_674),
    ("converse::joins_and_leaves_100", 3_304_990),
    ("converse::presences_100", 6_311_763),
];

/// The limit of a bench. Other processors than x86-64 have other instructions: there it is only
/// counted.
fn limit(bench: &str) -> LibraryBenchmarkConfig {
    let (_, measured) = MEASURED
        .iter()
        .find(|(name, _)| *name == bench)
        .expect("a bench stands in the table");
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    if cfg!(target_arch = "x86_64") {
        callgrind.hard_limits([(EventKind::Ir, measured * 11 / 10)]);
    }
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

const V1_SHOUT: &str = r#"{"topic":"random:lobby","event":"shout","payload":{"name":"ada","message":"hello, world"},"ref":"7"}"#;
const V2_SHOUT: &str =
    r#"["1","7","random:lobby","shout",{"name":"ada","message":"hello, world; are you there?"}]"#;

// Serializers.

fn text((version, text): (Version, &'static str)) -> (Version, ByteString) {
    let text = ByteString::from_static(text);
    version.decode_text(&text);
    (version, text)
}

#[library_benchmark(setup = text)]
#[bench::v1_text(args = ((Version::V1, V1_SHOUT)), config = limit("decode::v1_text"))]
#[bench::v2_text(args = ((Version::V2, V2_SHOUT)), config = limit("decode::v2_text"))]
fn decode((version, text): (Version, ByteString)) -> Message {
    version.decode_text(black_box(&text))
}

fn binary_push() -> Bytes {
    let header = b"\x00\x01\x01\x0c\x0517random:lobbyvoice";
    let data = Bytes::from([&header[..], &[7; 80]].concat());
    Version::V2.decode_binary(data.clone());
    data
}

#[library_benchmark]
#[bench::v2(args = (binary_push()), config = limit("decode_binary::v2"))]
fn decode_binary(data: Bytes) -> Message {
    Version::V2.decode_binary(black_box(data))
}

/// What is encoded: an answer to this message with this payload.
struct Answer {
    version: Version,
    to: Message,
    payload: Payload,
}

fn answer(version: Version) -> Answer {
    let to = Version::V2.decode_text(&V2_SHOUT.into());
    let payload = json!({"name": "ada", "message": "hello, world; are you there?"}).into();
    let answer = Answer {
        version,
        to,
        payload,
    };
    answer.version.push(&answer.to, "shout", &answer.payload);
    answer
}

#[library_benchmark(setup = answer)]
#[bench::v1(args = (Version::V1), config = limit("reply::v1"))]
#[bench::v2(args = (Version::V2), config = limit("reply::v2"))]
fn reply(answer: Answer) -> (Answer, ServerFrame) {
    let reply = Reply::ok(answer.payload.clone());
    let frame = answer.version.reply(black_box(&answer.to), &reply);
    (answer, frame)
}

#[library_benchmark(setup = answer)]
#[bench::v1(args = (Version::V1), config = limit("push::v1"))]
#[bench::v2(args = (Version::V2), config = limit("push::v2"))]
fn push(answer: Answer) -> (Answer, ServerFrame) {
    let Answer {
        version,
        to,
        payload,
    } = &answer;
    let frame = version.push(black_box(to), "shout", payload);
    (answer, frame)
}

#[library_benchmark(setup = answer)]
#[bench::v1(args = (Version::V1), config = limit("broadcast::v1"))]
#[bench::v2(args = (Version::V2), config = limit("broadcast::v2"))]
fn broadcast(answer: Answer) -> (Answer, ServerFrame) {
    let payload = black_box(&answer.payload);
    let frame = answer.version.broadcast("random:lobby", "shout", payload);
    (answer, frame)
}

// Frames.

/// A text frame as a client sends it.
fn client_frame(len: usize) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![0x81];
    if len < 126 {
        frame.push(0x80 | len as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(len as u16).to_be_bytes());
    }
    frame.extend_from_slice(&MASK);
    frame.extend(MASK.iter().cycle().take(len).map(|mask| b'x' ^ mask));
    assert_eq!(bench::decode_frames(&frame), 1);
    frame
}

#[library_benchmark(setup = client_frame)]
#[bench::of_100_bytes(args = (100), config = limit("decode_frames::of_100_bytes"))]
#[bench::of_16_kib(args = (16 * 1024), config = limit("decode_frames::of_16_kib"))]
fn decode_frames(stream: Vec<u8>) -> Vec<u8> {
    black_box(bench::decode_frames(black_box(&stream)));
    stream
}

fn payload() -> [u8; 100] {
    ServerFrame::text(b"warm");
    [b'x'; 100]
}

#[library_benchmark]
#[bench::of_100_bytes(args = (payload()), config = limit("server_frame::of_100_bytes"))]
fn server_frame(payload: [u8; 100]) -> ServerFrame {
    ServerFrame::text(black_box(&payload))
}

fn queue_and_frame() -> (Queue, ServerFrame) {
    (Queue::default(), ServerFrame::text(&[b'x'; 100]))
}

#[library_benchmark]
#[bench::frames_100(args = (queue_and_frame()), config = limit("queue_and_write::frames_100"))]
fn queue_and_write((queue, frame): (Queue, ServerFrame)) -> (Queue, ServerFrame) {
    for _ in 0..100 {
        queue.push(&frame);
    }
    while queue.write() > 0 {}
    (queue, frame)
}

#[library_benchmark]
#[bench::frames_100(args = (queue_and_frame()), config = limit("queue_and_take_lone::frames_100"))]
fn queue_and_take_lone((queue, frame): (Queue, ServerFrame)) -> (Queue, ServerFrame) {
    for _ in 0..100 {
        queue.push(&frame);
        assert!(queue.take_lone());
    }
    (queue, frame)
}

// Members.

/// A room, its members, and one that comes and goes.
struct Crowd {
    /// Holds the task of the thread's table.
    _system: SystemRunner,
    room: Room,
    _members: Vec<(Member, Queue)>,
    guest: Queue,
}

fn crowd(size: usize) -> Crowd {
    let system = actix_rt::System::new();
    let room = Room::new("random:lobby");
    let enter = |_| {
        let queue = Queue::default();
        (room.join(&queue), queue)
    };
    let members = system.block_on(async { (0..size).map(enter).collect() });
    let guest = Queue::default();
    drop(room.join(&guest));
    Crowd {
        _system: system,
        room,
        _members: members,
        guest,
    }
}

#[library_benchmark(setup = crowd)]
#[bench::among_10(args = (10), config = limit("join_and_leave::among_10"))]
#[bench::among_19_000(args = (19_000), config = limit("join_and_leave::among_19_000"))]
fn join_and_leave(crowd: Crowd) -> Crowd {
    drop(black_box(crowd.room.join(&crowd.guest)));
    crowd
}

fn crowd_and_draft(size: usize) -> (Crowd, Draft) {
    (crowd(size), Draft::new("shout", json!({"message": "hi"})))
}

#[library_benchmark(setup = crowd_and_draft)]
#[bench::to_1_000(args = (1_000), config = limit("fan_out::to_1_000"))]
fn fan_out((crowd, draft): (Crowd, Draft)) -> (Crowd, Draft) {
    crowd.room.broadcast(&draft);
    (crowd, draft)
}

// The whole way of a message: decoded, through SocketServer and ChannelServer, the answers encoded.

/// What a client says, and how many frames answer it.
type Line = (ByteString, usize);

/// A client, and what it is about to say.
struct Conversation {
    system: SystemRunner,
    client: TestSocket,
    lines: Vec<Line>,
}

impl Conversation {
    fn speak(&self, lines: &[Line]) {
        self.system.block_on(async {
            for (text, answers) in lines {
                bench::hand_over(&self.client, Version::V2.decode_text(text));
                for _ in 0..*answers {
                    black_box(bench::next_frame(&self.client).await);
                }
            }
        });
    }
}

/// A client that has said `before`, and `lines` once.
fn conversation(before: &[Line], lines: Vec<Line>) -> Conversation {
    conversation_in(&rooms::Room::default(), UserSocket, before, lines)
}

fn conversation_in(
    room: &rooms::Room,
    socket: impl Socket,
    before: &[Line],
    lines: Vec<Line>,
) -> Conversation {
    let router = rooms::router(std::slice::from_ref(room));
    conversation_over(PubSub::new(), router, socket, before, lines)
}

fn conversation_over(
    pubsub: PubSub,
    router: SocketRouter,
    socket: impl Socket,
    before: &[Line],
    lines: Vec<Line>,
) -> Conversation {
    let endpoint = Endpoint::builder(pubsub)
        .mount(Mount::new("/socket", socket, router))
        .build();
    let system = actix_rt::System::new();
    let client = system
        .block_on(TestSocket::connect(&endpoint, "/socket", json!({})))
        .expect("everybody may connect");
    let conversation = Conversation {
        system,
        client,
        lines,
    };
    conversation.speak(before);
    conversation.speak(&conversation.lines);
    conversation
}

fn join(reference: usize) -> Line {
    let text = format!(r#"["{reference}","{reference}","random:lobby","phx_join",{{}}]"#);
    (text.into(), 1)
}

fn echoes(times: usize) -> Conversation {
    let ping = |reference: usize| {
        let ping = format!(r#"["1","{reference}","random:lobby","ping",{{"message":"hello"}}]"#);
        (ping.into(), 1)
    };
    conversation(&[join(1)], (100..100 + times).map(ping).collect())
}

fn joins_and_leaves(times: usize) -> Conversation {
    // A leave is answered, and the channel's end is told.
    let leave = |reference: usize| {
        let text = format!(r#"["{reference}","7","random:lobby","phx_leave",{{}}]"#);
        (text.into(), 2)
    };
    let visit = |reference| [join(reference), leave(reference)];
    conversation(&[], (100..100 + times).flat_map(visit).collect())
}

/// A room that shows who is here.
struct Present;

impl Channel for Present {
    type Info = ();

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let meta = json!({"name": "ada", "online_at": 1_700_000_000});
        Ok(Join::ok(Self).with_presence(&ctx.state::<Presence>(), "user:7", meta))
    }
}

fn presences(times: usize) -> Conversation {
    // A join is answered, told and followed by the list.
    let visit = |reference| {
        let leave = format!(r#"["{reference}","7","random:lobby","phx_leave",{{}}]"#);
        [(join(reference).0, 3), (leave.into(), 2)]
    };
    let pubsub = PubSub::new();
    let router = SocketRouter::new().state(Presence::new(pubsub.clone()));
    let router = router.channel::<Present>("random:*");
    let lines = (100..100 + times).flat_map(visit).collect();
    conversation_over(pubsub, router, UserSocket, &[], lines)
}

/// Ada, as a token or connect params would name her.
struct Ada;

impl Socket for Ada {
    async fn connect(
        &self,
        _: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        assigns.insert(Identity::new(json!({"id": 7, "name": "ada"})));
        Ok(())
    }
}

/// Messages of Ada to a room of which she is the only member.
fn messages(rule: &str, times: usize) -> Conversation {
    let config = format!("topics = \"random:*\"\nhistory = \"none\"\n{rule}");
    let room = bench::configured_room(&config);
    let say = |reference: usize| {
        let text = format!(r#"["1","{reference}","random:lobby","say",{{"body":"hello"}}]"#);
        (text.into(), 1)
    };
    let lines = (100..100 + times).map(say).collect();
    conversation_in(&room, Ada, &[join(1)], lines)
}

fn plain(times: usize) -> Conversation {
    messages("events = [\"say\"]", times)
}

fn stamped(times: usize) -> Conversation {
    let rule =
        r#"on.say = { stamp = { id = "{user.id}", name = "{user.name}", at = "{now.ms}" } }"#;
    messages(rule, times)
}

#[library_benchmark]
#[bench::plain_100(args = (plain(100)), config = limit("converse::plain_100"))]
#[bench::stamped_100(args = (stamped(100)), config = limit("converse::stamped_100"))]
#[bench::echoes_100(args = (echoes(100)), config = limit("converse::echoes_100"))]
#[bench::joins_and_leaves_100(
    args = (joins_and_leaves(100)),
    config = limit("converse::joins_and_leaves_100")
)]
#[bench::presences_100(args = (presences(100)), config = limit("converse::presences_100"))]
fn converse(conversation: Conversation) -> Conversation {
    conversation.speak(&conversation.lines);
    conversation
}

library_benchmark_group!(
    name = hot_path,
    benchmarks = [
        decode,
        decode_binary,
        reply,
        push,
        broadcast,
        decode_frames,
        server_frame,
        queue_and_write,
        queue_and_take_lone,
        join_and_leave,
        fan_out,
        converse,
    ]
);

main!(library_benchmark_groups = hot_path);
