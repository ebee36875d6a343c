//! After the goodbye: clients that wait for the server to end the TCP connection, as RFC 6455 asks
//! them to, and as the Python package `websockets` does.

use slackir::Endpoint;
use slackir::chat::{Room, router};
use slackir::pubsub::PubSub;
use slackir::socket::Socket;

use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::wire::{DEADLINE, Frame};

struct Anyone;
impl Socket for Anyone {}

/// One after the other, so that they end at different ticks of the server's coarse clock: a
/// deadline that is over when it is set would never be noticed.
#[actix_web::test]
async fn the_server_hangs_up_on_every_client_that_waits_for_it() {
    let server = TestServer::start(|| {
        Endpoint::builder(PubSub::new())
            .socket("/socket", Anyone, router(&[Room::default()]))
            .build()
    });
    for client in 0..6 {
        let mut phoenix = Phoenix::connect(server.addr).await;
        phoenix.wire.close(1000).await.expect("open");
        let end = phoenix.wire.recv(2, DEADLINE).await;
        assert_eq!(
            end,
            [Frame::Close(Some(1000)), Frame::Eof],
            "client {client}"
        );
    }
}
