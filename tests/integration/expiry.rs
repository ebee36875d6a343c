//! The end of a connection's permission.

use std::time::Duration;

use serde_json::json;
use slackir::prelude::*;
use slackir::socket::Expiry;
use slackir::{Assigns, Endpoint, Mount};

use crate::support::phoenix::Phoenix;
use crate::support::server::{TestServer, over_both_drivers};
use crate::support::transport::{Wire, both_transports, over_both_transports};

/// Connections end after 300 ms.
struct Limited;

impl Socket for Limited {
    async fn connect(
        &self,
        _: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        assigns.insert(Expiry::after(Duration::from_millis(300)));
        Ok(())
    }
}

/// Moves the end by each event: `never`, or `now`.
struct Mover;

impl Channel for Mover {
    type Info = ();

    async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
        Ok(Join::ok(Self))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        _: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        let expiry = ctx.assigns().get::<Expiry>().expect("it is assigned");
        expiry.set((event == "now").then_some(Duration::ZERO));
        Ok(HandleIn::NoReply)
    }
}

fn server() -> TestServer {
    TestServer::start(|| {
        let router = SocketRouter::new().channel::<Mover>("room:*");
        Endpoint::builder(PubSub::new())
            .mount(Mount::new("/socket", Limited, router).transports(both_transports()))
            .build()
    })
}

over_both_transports! {
    a_connection_ends_at_its_expiry
}

over_both_drivers! {
    a_channel_moves_the_end
}

async fn a_connection_ends_at_its_expiry<W: Wire>() {
    let server = server();
    let mut client = Phoenix::<W>::dial(server.addr).await;
    client.join("room:1").await;
    client.ended_with(1008).await;
}

async fn a_channel_moves_the_end() {
    let server = server();
    let mut client = Phoenix::connect(server.addr).await;
    let (join_ref, _) = client.join("room:1").await;
    client.push(&join_ref, "room:1", "never", json!({})).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    client.heartbeat().await;
    client.push(&join_ref, "room:1", "now", json!({})).await;
    assert_eq!(client.closed().await, 1008);
}
