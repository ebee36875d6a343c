//! After the goodbye: clients that leave it to the server to end the TCP connection, as RFC 6455
//! asks them to.

use futures_util::StreamExt;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, router};
use slackir::socket::Socket;
use slackir::{Endpoint, Mount};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;

use crate::support::server::{TestServer, over_both_drivers};
use crate::support::wire::DEADLINE;

over_both_drivers! {
    the_server_hangs_up_on_every_client_that_waits_for_it
}

struct Anyone;
impl Socket for Anyone {}

/// One after the other, so that they end at different ticks of the server's coarse clock.
async fn the_server_hangs_up_on_every_client_that_waits_for_it() {
    let server = TestServer::start(|| {
        Endpoint::builder(PubSub::new())
            .mount(Mount::new("/socket", Anyone, router(&[Room::default()])))
            .build()
    });
    for client in 0..6 {
        let url = format!("ws://{}/socket/websocket?vsn=2.0.0", server.addr);
        let (mut socket, _) = connect_async(url).await.expect("it is accepted");
        socket.close(None).await.expect("open");
        // The answer to the close frame, and then the end of the stream.
        let end = async { while socket.next().await.is_some() {} };
        assert!(timeout(DEADLINE, end).await.is_ok(), "client {client}");
    }
}
