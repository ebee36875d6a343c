//! The recorded scenarios, played against the conformance application: those of channels and sockets
//! over both transports, and what is played over WebSocket on both of its drivers.

use slackir::transport::LongPollOptions;

use crate::support::conformance_app;
use crate::support::longpoll::PollClient;
use crate::support::scenario;
use crate::support::server::{Driver, TestServer, over_both_drivers};
use crate::support::transport::{WINDOW, Wire};
use crate::support::wire::WireClient;

async fn check<W: Wire>(file: &str, count: usize) {
    let options = LongPollOptions::default().window(WINDOW);
    let start = || TestServer::start(move || conformance_app::endpoint_with(options));
    scenario::check::<W>(start, file).await.expect_passed(count);
}

/// Plays files over both transports, with the number of scenarios that each can play.
macro_rules! recorded {
    ($($name:ident: $websocket:literal over websocket, $longpoll:literal over longpoll;)*) => {$(
        mod $name {
            use super::*;

            const FILE: &str = concat!(stringify!($name), ".json");

            #[actix_web::test]
            async fn websocket() {
                let played = check::<WireClient>(FILE, $websocket);
                Driver::ActixWs.run(played).await;
            }

            #[actix_web::test]
            async fn direct() {
                let played = check::<WireClient>(FILE, $websocket);
                Driver::Direct.run(played).await;
            }

            #[actix_web::test]
            async fn longpoll() {
                check::<PollClient>(FILE, $longpoll).await;
            }
        }
    )*};
}

recorded! {
    handshake: 13 over websocket, 5 over longpoll;
    lifecycle: 28 over websocket, 27 over longpoll;
    vsn1: 7 over websocket, 7 over longpoll;
    bad_input: 12 over websocket, 8 over longpoll;
    channel_api: 16 over websocket, 16 over longpoll;
    presence: 6 over websocket, 6 over longpoll;
}

over_both_drivers! {
    binary
    longpoll
}

/// What a polling client is never sent.
async fn binary() {
    check::<WireClient>("binary.json", 4).await;
}

/// Requests by hand, and a WebSocket beside them.
async fn longpoll() {
    check::<WireClient>("longpoll.json", 9).await;
}
