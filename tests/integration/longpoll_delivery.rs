//! Long-polling loses nothing: what an answer was to bring to a client that has gone is in the next, and
//! what a client has got does not come again.

use std::time::Duration;

use serde_json::{Value, json};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, UserSocket, router};
use slackir::socket::{OutboxLimits, SocketOptions};
use slackir::{Endpoint, Mount};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::support::phoenix::Phoenix;
use crate::support::poller::Poller;
use crate::support::server::{Driver, TestServer, over_both_drivers};

const TOPIC: &str = "random:lobby";
/// Long enough for a request to reach its handler.
const MOMENT: Duration = Duration::from_millis(100);

over_both_drivers! {
    what_comes_after_a_waiting_client_has_gone_is_in_the_next_answer
    an_answer_that_is_read_in_part_comes_again_whole
    an_answer_that_was_read_does_not_come_again
    a_later_poll_waits_until_the_former_answer_is_written
}

/// A chat whose windows outlast the tests, a polling member, and one who shouts.
async fn chat() -> (TestServer, Poller, Phoenix, String) {
    let server = TestServer::start(|| {
        let transports = TransportOptions::default().longpoll("longpoll");
        let room = Room::default().max_message_bytes(3_000_000);
        Endpoint::builder(PubSub::new())
            .mount(
                Mount::new("/socket", UserSocket, router(&[room]))
                    .transports(transports)
                    .options(
                        SocketOptions::default().outbox(OutboxLimits::default().bytes(100_000_000)),
                    ),
            )
            .build()
    });
    let ann = Poller::open(server.addr).await;
    ann.join(TOPIC).await;
    let mut bob = Phoenix::connect(server.addr).await;
    let (join_ref, _) = bob.join(TOPIC).await;
    (server, ann, bob, join_ref)
}

/// A poll on a connection of its own, which nobody reads yet.
async fn send_poll(ann: &Poller) -> TcpStream {
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", ann.path(), ann.addr);
    let mut stream = TcpStream::connect(ann.addr).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("open");
    stream
}

async fn shout(bob: &mut Phoenix, join_ref: &str, n: usize, body: &str) {
    let payload = json!({"n": n, "body": body});
    bob.push(join_ref, TOPIC, "shout", payload).await;
    // His own copy: the server has sent it to everybody.
    assert_eq!(bob.next_event().await.0, "shout");
}

fn numbers(messages: &[Value]) -> Vec<usize> {
    let numbers = messages.iter().map(|message| &message[4]["n"]);
    numbers
        .map(|n| n.as_u64().expect("a number") as usize)
        .collect()
}

async fn what_comes_after_a_waiting_client_has_gone_is_in_the_next_answer() {
    let (_server, ann, mut bob, join_ref) = chat().await;
    for with_reset in [false, true] {
        if !with_reset && Driver::current() == Driver::ActixWs {
            // actix-http goes on when a client has ended its side, and does not tell.
            continue;
        }
        let poll = send_poll(&ann).await;
        sleep(MOMENT).await;
        if with_reset {
            poll.set_zero_linger().expect("a socket");
        }
        drop(poll);
        sleep(MOMENT).await;
        for n in 0..2 {
            shout(&mut bob, &join_ref, n, "").await;
        }
        assert_eq!(numbers(&ann.messages().await), [0, 1]);
    }
}

/// The kernel has taken the answer, its client has not. Where the server owns its streams it sees that.
#[actix_web::test]
async fn an_answer_that_was_left_unread_is_in_the_next() {
    Driver::Direct
        .run(async {
            let (_server, ann, mut bob, join_ref) = chat().await;
            // The head of a long answer is sent before its body: the client ends between the two.
            let long = "x".repeat(50_000);
            for (n, body) in ["", &long, "", &long].into_iter().enumerate() {
                let poll = send_poll(&ann).await;
                shout(&mut bob, &join_ref, n, body).await;
                poll.readable().await.expect("an answer");
                let _ = poll.try_read(&mut [0; 300]);
                drop(poll);
                sleep(MOMENT).await;
            }
            assert_eq!(numbers(&ann.messages().await), [0, 1, 2, 3]);
        })
        .await;
}

async fn an_answer_that_is_read_in_part_comes_again_whole() {
    let (_server, ann, mut bob, join_ref) = chat().await;
    // More than the kernel keeps for a client that does not read.
    let body = "x".repeat(700_000);
    let mut poll = send_poll(&ann).await;
    sleep(MOMENT).await;
    for n in 0..8 {
        shout(&mut bob, &join_ref, n, &body).await;
    }
    let mut part = vec![0; 1_000];
    poll.read_exact(&mut part).await.expect("it has begun");
    drop(poll);
    let mut heard = Vec::new();
    while heard.len() < 8 {
        heard.extend(ann.messages().await);
    }
    assert_eq!(numbers(&heard), (0..8).collect::<Vec<_>>());
}

async fn an_answer_that_was_read_does_not_come_again() {
    let (_server, ann, mut bob, join_ref) = chat().await;
    for n in 0..10 {
        let (heard, ()) = tokio::join!(ann.messages(), shout(&mut bob, &join_ref, n, ""));
        assert_eq!(numbers(&heard), [n]);
    }
}

/// Two connections of one client may cross: what is being written to the first is not sent to the second.
async fn a_later_poll_waits_until_the_former_answer_is_written() {
    let (_server, ann, mut bob, join_ref) = chat().await;
    let body = "x".repeat(2_000_000);
    let mut first = send_poll(&ann).await;
    sleep(MOMENT).await;
    for n in 0..3 {
        shout(&mut bob, &join_ref, n, &body).await;
    }
    let read_late = async {
        sleep(MOMENT * 3).await;
        let started = Instant::now();
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        // The answer to the only request of a connection that stays open.
        while !bytes.ends_with(b"}") {
            let read = first.read(&mut buffer).await.expect("open");
            assert!(read > 0 && started.elapsed() < Duration::from_secs(8));
            bytes.extend_from_slice(&buffer[..read]);
        }
        let text = String::from_utf8(bytes).expect("text");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        let answer: Value = serde_json::from_str(body).expect("JSON");
        let messages = answer["messages"].as_array().expect("a list").iter();
        let parse = |text: &Value| serde_json::from_str(text.as_str().expect("a string"));
        messages
            .map(|text| parse(text).expect("JSON"))
            .collect::<Vec<Value>>()
    };
    let later = async {
        let answer = ann.messages();
        let news = async {
            sleep(MOMENT * 4).await;
            shout(&mut bob, &join_ref, 3, "").await;
        };
        tokio::join!(answer, news).0
    };
    let (mut heard, later) = tokio::join!(read_late, later);
    heard.extend(later);
    while heard.len() < 4 {
        heard.extend(ann.messages().await);
    }
    assert_eq!(numbers(&heard), [0, 1, 2, 3]);
}
