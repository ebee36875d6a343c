//! permessage-deflate (RFC 7692), and gzip for long-polling clients. The client inflates and deflates by another
//! implementation than the server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate as deflate_stream;
use miniz_oxide::inflate::decompress_to_vec;
use miniz_oxide::{MZError, MZFlush};
use serde_json::{Value, json};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::rate::Rate;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::{RateLimits, SocketOptions};
use slackir::transport::{HandshakeOptions, LongPollOptions};
use slackir::{Endpoint, Mount};

use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::server::{Driver, TestServer};
use crate::support::wire::{DEADLINE, Frame, RawFrame, WireClient, http};

const TOPIC: &str = "random:a";
const TEXT: u8 = 1;
/// The opcode of the first frame of a compressed text.
const COMPRESSED: u8 = 0x41;
const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The chat without a database, on streams of the server's own.
async fn with_chat(compress: bool, test: impl AsyncFnOnce(&TestServer)) {
    with_driver(Driver::Direct, compress, test).await;
}

async fn with_driver(driver: Driver, compress: bool, test: impl AsyncFnOnce(&TestServer)) {
    let test = async {
        let server = TestServer::start(move || {
            let transports = TransportOptions::default()
                .longpoll("longpoll")
                .longpoll_options(LongPollOptions::default().window(Duration::from_secs(2)))
                .handshake(HandshakeOptions::default().compress(compress));
            let none = Rate::new(0, 0);
            let options = SocketOptions::default()
                .rates(RateLimits::default().joins(none).pushes(none).bytes(none));
            let mount = Mount::new("/socket", UserSocket, router(&[Room::default()]));
            Endpoint::builder(PubSub::new())
                .mount(mount.options(options).transports(transports))
                .build()
        });
        test(&server).await;
    };
    driver.run(test).await;
}

/// Connects with this offer.
async fn connect(server: &TestServer, offer: &str) -> Phoenix {
    let headers = [("Sec-WebSocket-Extensions", Some(offer))];
    let opened = WireClient::open(server.addr, "/socket/websocket?vsn=2.0.0", &headers).await;
    Phoenix::over(opened.expect("an answer").expect("accepted"))
}

fn agreed(client: &Phoenix) -> Option<&str> {
    let headers = &client.wire.answer.headers;
    headers.get("sec-websocket-extensions").map(String::as_str)
}

/// The compressed messages so far, and their bytes.
fn compressed(client: &Phoenix) -> (usize, usize) {
    let [messages, bytes] = &*client.wire.compressed;
    (
        messages.load(Ordering::Relaxed),
        bytes.load(Ordering::Relaxed),
    )
}

/// The payload of a compressed message.
fn deflate(message: &[u8]) -> Vec<u8> {
    let flags = create_comp_flags_from_zip_params(6, -15, 0);
    let mut output = vec![0; message.len() + 1_000];
    let mut state = CompressorOxide::new(flags);
    let result = deflate_stream(&mut state, message, &mut output, MZFlush::Sync);
    assert!(matches!(result.status, Ok(_) | Err(MZError::Buf)));
    assert_eq!(result.bytes_consumed, message.len());
    output.truncate(result.bytes_written);
    assert_eq!(output.split_off(output.len() - 4), [0, 0, 0xFF, 0xFF]);
    output
}

/// Text of a chat.
fn text(len: usize) -> String {
    let words = (0..).map(|n: usize| format!("word{} ", n * n % 97));
    let mut text: String = words.take(len / 6 + 1).collect();
    text.truncate(len);
    text
}

/// Requirement 53.
#[actix_web::test]
async fn compression_is_agreed_where_it_is_switched_on_and_offered() {
    for (driver, compress, offer, answer) in [
        (
            Driver::Direct,
            true,
            "permessage-deflate; client_max_window_bits",
            Some(BOTH),
        ),
        (Driver::Direct, true, "permessage-deflate; level=9", None),
        (Driver::Direct, true, "x-webkit-deflate-frame", None),
        (Driver::Direct, false, "permessage-deflate", None),
        (Driver::ActixWs, true, "permessage-deflate", None),
    ] {
        with_driver(driver, compress, async |server| {
            let mut client = connect(server, offer).await;
            assert_eq!(agreed(&client), answer, "{driver:?} {compress} {offer}");
            let (join_ref, _) = client.join(TOPIC).await;
            let body = json!({"body": text(2_000)});
            let echo = client.push(&join_ref, TOPIC, "ping", body.clone()).await;
            assert_eq!(client.reply_to(&echo).await["response"], body);
            assert_eq!(compressed(&client).0, usize::from(answer.is_some()));
        })
        .await;
    }
}

#[actix_web::test]
async fn messages_of_512_bytes_and_more_are_compressed_for_those_who_take_that() {
    with_chat(true, async |server| {
        let mut ann = connect(server, "permessage-deflate").await;
        let mut bob = connect(server, "permessage-deflate; server_max_window_bits=10").await;
        let mut carl = Phoenix::connect(server.addr).await;
        let bobs = format!("{BOTH}; server_max_window_bits=10");
        assert_eq!(agreed(&bob), Some(&*bobs));
        let (join_ref, _) = ann.join(TOPIC).await;
        bob.join(TOPIC).await;
        carl.join(TOPIC).await;
        // Bytes of the body, and whether the message is compressed for Ann and for Bob.
        let mut expected = [0, 0];
        for (len, by_size) in [(10, [0, 0]), (400, [0, 0]), (600, [1, 1]), (3_000, [1, 0])] {
            let body = json!({"body": text(len)});
            ann.push(&join_ref, TOPIC, "shout", body.clone()).await;
            for client in [&mut ann, &mut bob, &mut carl] {
                let heard = loop {
                    let (event, payload) = client.next_event().await;
                    if event == "shout" {
                        break payload;
                    }
                };
                assert_eq!(heard["body"], body["body"]);
            }
            expected = [0, 1].map(|n| expected[n] + by_size[n]);
            let counts = [&ann, &bob].map(|client| compressed(client).0);
            assert_eq!(counts, expected, "{len} bytes");
        }
        assert!(compressed(&ann).1 < 1_500, "{:?}", compressed(&ann));
    })
    .await;
}

#[actix_web::test]
async fn a_client_may_compress_its_messages_in_any_form_of_the_rfc() {
    with_chat(true, async |server| {
        let mut client = connect(server, "permessage-deflate").await;
        let (join_ref, _) = client.join(TOPIC).await;
        let body = json!({"body": text(1_000)});
        let echo = |reference: &str| json!([join_ref, reference, TOPIC, "ping", body]).to_string();
        let frame = |opcode, payload: &[u8]| RawFrame::new(opcode, payload).encode();
        let part = |opcode, payload: &[u8]| {
            let part = RawFrame {
                fin: false,
                ..RawFrame::new(opcode, payload)
            };
            part.encode()
        };
        let whole = deflate(echo("1").as_bytes());
        let cut = deflate(echo("2").as_bytes());
        let (first, rest) = cut.split_at(7);
        // A final block, and the byte that belongs behind it.
        let mut last = miniz_oxide::deflate::compress_to_vec(echo("3").as_bytes(), 6);
        last.push(0);
        let stored = miniz_oxide::deflate::compress_to_vec(echo("4").as_bytes(), 0);
        let fragments = |text: &str| {
            let payload = deflate(text.as_bytes());
            let mut bytes = part(COMPRESSED, b"");
            bytes.extend(payload.iter().flat_map(|byte| part(0, &[*byte])));
            bytes.extend(frame(0, b""));
            bytes
        };
        for (reference, bytes) in [
            ("1", frame(COMPRESSED, &whole)),
            (
                "2",
                [
                    part(COMPRESSED, first),
                    frame(9, b"between"),
                    frame(0, rest),
                ]
                .concat(),
            ),
            ("3", frame(COMPRESSED, &last)),
            ("4", frame(COMPRESSED, &stored)),
            ("5", fragments(&echo("5"))),
            ("6", frame(TEXT, echo("6").as_bytes())),
        ] {
            client.wire.send_bytes(&bytes).await.expect("open");
            if reference == "2" {
                let pong = client.wire.recv(1, DEADLINE).await;
                assert_eq!(pong, [Frame::Pong(b"between".to_vec())]);
            }
            assert_eq!(client.reply_to(reference).await["response"], body);
        }
    })
    .await;
}

#[actix_web::test]
async fn what_breaks_the_extension_closes_the_connection() {
    with_chat(true, async |server| {
        let fin = |opcode, payload: &[u8]| RawFrame::new(opcode, payload).encode();
        let part = |opcode, payload: &[u8]| {
            let part = RawFrame {
                fin: false,
                ..RawFrame::new(opcode, payload)
            };
            part.encode()
        };
        let deflate_offer = "permessage-deflate";
        let over = deflate(&vec![b' '; 10_000_001]);
        assert!(over.len() < 15_000, "a bomb");
        let mut cut = deflate(text(900).as_bytes());
        cut.truncate(cut.len() - 9);
        for (name, offer, bytes, code) in [
            ("not agreed", "none", fin(COMPRESSED, &deflate(b"[]")), 1002),
            ("a compressed ping", deflate_offer, fin(0x49, b""), 1002),
            ("a compressed close", deflate_offer, fin(0x48, b""), 1002),
            (
                "a compressed continuation",
                deflate_offer,
                [part(COMPRESSED, b"a"), fin(0x40, b"b")].concat(),
                1002,
            ),
            (
                "another bit",
                deflate_offer,
                fin(0x61, &deflate(b"[]")),
                1002,
            ),
            ("garbage", deflate_offer, fin(COMPRESSED, b"garbage"), 1007),
            ("truncated", deflate_offer, fin(COMPRESSED, &cut), 1007),
            (
                "not UTF-8",
                deflate_offer,
                fin(COMPRESSED, &deflate(b"\xff")),
                1007,
            ),
            ("a bomb", deflate_offer, fin(COMPRESSED, &over), 1009),
            (
                "a bomb in fragments",
                deflate_offer,
                [
                    part(COMPRESSED, &deflate(&vec![b' '; 8_000_001])[..5]),
                    fin(0, &deflate(&vec![b' '; 8_000_001])[5..]),
                ]
                .concat(),
                1009,
            ),
            // Inflated, and then no message.
            (
                "no JSON",
                deflate_offer,
                fin(COMPRESSED, &deflate(b"[")),
                1011,
            ),
        ] {
            let mut client = connect(server, offer).await;
            client.wire.send_bytes(&bytes).await.expect("open");
            let received = client.wire.recv(1, DEADLINE).await;
            assert_eq!(received, [Frame::Close(Some(code))], "{name}");
        }
    })
    .await;
}

/// The cases 12 and 13 of Autobahn: echoes of messages of each size, whole and in fragments, with each offer.
/// `SLACKIR_AUTOBAHN_MESSAGES` of each; Autobahn sends 1,000.
#[actix_web::test]
async fn autobahn_12_and_13() {
    const SIZES: [usize; 10] = [
        16, 64, 256, 1_024, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072,
    ];
    const OFFERS: [&str; 7] = [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=15; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=15; client_max_window_bits, \
         permessage-deflate; server_no_context_takeover; client_max_window_bits, permessage-deflate; client_max_window_bits",
    ];
    let messages = std::env::var("SLACKIR_AUTOBAHN_MESSAGES");
    let messages: usize = messages.map_or(5, |number| number.parse().expect("a number"));
    with_chat(true, async |server| {
        for offer in OFFERS {
            let mut client = connect(server, offer).await;
            assert!(agreed(&client).is_some_and(|agreed| agreed.starts_with(BOTH)));
            let (join_ref, _) = client.join(TOPIC).await;
            for size in SIZES {
                for fragment in [usize::MAX, 1_024] {
                    for number in 0..messages {
                        let body = payload(number, size);
                        let reference = number.to_string();
                        let push = json!([join_ref, reference, TOPIC, "ping", {"x": body}]);
                        send(&client, &push.to_string(), fragment).await;
                        let reply = client.reply_to(&reference).await;
                        assert_eq!(reply["response"]["x"], body, "{offer}: {size}");
                    }
                }
            }
            assert!(compressed(&client).0 > 0 || offer.contains("server_max_window_bits=9"));
        }
    })
    .await;
}

/// Text, JSON in a string, and characters of each length.
fn payload(number: usize, size: usize) -> Value {
    let unit = match number % 3 {
        0 => format!("{number} Habe nun, ach! Philosophie, Juristerei und Medizin "),
        1 => format!("{{\"id\":{number},\"list\":[1,2,\"\\n\"],\"nested\":{{\"a\":null}}}}"),
        _ => "\u{b5}\u{20ac}\u{1F600} \u{1} ".to_owned(),
    };
    let chars = unit.chars().cycle();
    let mut size = size;
    let fits = chars.take_while(|c| {
        let rest = size.checked_sub(c.len_utf8());
        size = rest.unwrap_or(0);
        rest.is_some()
    });
    fits.collect::<String>().into()
}

/// Sends a compressed message in fragments of at most so many bytes.
async fn send(client: &Phoenix, message: &str, fragment: usize) {
    let payload = deflate(message.as_bytes());
    let mut parts = payload.chunks(fragment).enumerate().peekable();
    let mut bytes = Vec::new();
    while let Some((index, part)) = parts.next() {
        let frame = RawFrame {
            fin: parts.peek().is_none(),
            ..RawFrame::new(if index == 0 { COMPRESSED } else { 0 }, part)
        };
        bytes.extend(frame.encode());
    }
    client.wire.send_bytes(&bytes).await.expect("open");
}

#[actix_web::test]
async fn answers_to_polls_are_zipped_for_those_who_take_that() {
    for (driver, compress, accept, len, zipped) in [
        (Driver::Direct, true, "gzip, deflate, br", 2_000, true),
        (Driver::ActixWs, true, "gzip", 2_000, true),
        (Driver::Direct, true, "gzip", 100, false),
        (Driver::Direct, true, "br, gzip;q=0", 2_000, false),
        (Driver::Direct, false, "gzip", 2_000, false),
    ] {
        with_driver(driver, compress, async |server| {
            let ann = Poller::open(server.addr).await;
            ann.join(TOPIC).await;
            let body = json!({"body": text(len)});
            ann.send(json!(["1", "2", TOPIC, "ping", body])).await;
            let accepted = [("Accept-Encoding", Some(accept))];
            let answer = http(server.addr, "GET", &ann.path(), &accepted, b"").await;
            let answer = answer.expect("an answer");
            let name = format!("{driver:?} {compress} {accept} {len}");
            let header = |name: &str| answer.headers.get(name).map(String::as_str);
            assert_eq!(
                header("content-encoding"),
                zipped.then_some("gzip"),
                "{name}"
            );
            assert_eq!(
                header("vary"),
                compress.then_some("accept-encoding"),
                "{name}"
            );
            assert_eq!(header("access-control-allow-origin"), Some("*"));
            let plain = if zipped {
                assert!(answer.body.len() < len / 2, "{}", answer.body.len());
                let token = ann.token.as_bytes();
                let mut parts = answer.body.windows(token.len());
                assert!(parts.any(|part| part == token), "the token is stored");
                // Ten bytes of head, eight of trailer.
                let data = &answer.body[10..answer.body.len() - 8];
                decompress_to_vec(data).expect("gzip")
            } else {
                answer.body
            };
            let answer: Value = serde_json::from_slice(&plain).expect("JSON");
            let reply = answer["messages"][0].as_str().expect("a message");
            let reply: Value = serde_json::from_str(reply).expect("JSON");
            assert_eq!(reply[4]["response"], body, "{name}");
        })
        .await;
    }
}
