//! Permits of connections: the server asks them when a connection begins, and whenever the program says so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use slackir::endpoint::Mount;
use slackir::prelude::*;
use slackir::socket::Permit;
use slackir::{Assigns, Endpoint};

use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::transport::{Wire, both_transports, over_both_transports};

/// The names that are banned.
type Banned = Arc<Mutex<BTreeSet<String>>>;

struct Named(Banned);

impl Socket for Named {
    async fn connect(
        &self,
        params: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let (banned, name) = (
            Arc::clone(&self.0),
            params.get("name").unwrap_or_default().to_owned(),
        );
        assigns.insert(Permit::new(move || {
            !banned.lock().expect("sound").contains(&name)
        }));
        Ok(())
    }
}

struct Room;

impl Channel for Room {
    type Info = ();

    async fn join(_: Payload, _: &mut Context<Self>) -> JoinResult<Self> {
        Ok(Join::ok(Self))
    }
}

fn server(banned: &Banned) -> TestServer {
    let banned = Arc::clone(banned);
    TestServer::start(move || {
        let router = SocketRouter::new().channel::<Room>("room:*");
        let mount = Mount::new("/socket", Named(banned), router);
        Endpoint::builder(PubSub::new())
            .mount(mount.transports(both_transports()))
            .build()
    })
}

over_both_transports! {
    connections_without_a_permit_end_and_others_stay
    a_connection_that_begins_without_a_permit_ends
}

async fn connections_without_a_permit_end_and_others_stay<W: Wire>() {
    let banned = Banned::default();
    let server = server(&banned);
    let mut eves = Vec::new();
    for n in 0..8 {
        let mut eve = Phoenix::<W>::dial_with(server.addr, "&name=eve").await;
        if n % 2 == 0 {
            eve.join("room:1").await;
        }
        eves.push(eve);
    }
    let mut ann = Phoenix::<W>::dial_with(server.addr, "&name=ann").await;
    ann.join("room:1").await;
    server.endpoint.check_permits().await;
    for eve in &mut eves {
        eve.heartbeat().await;
    }
    banned.lock().expect("sound").insert("eve".to_owned());
    server.endpoint.check_permits().await;
    for eve in &mut eves {
        eve.ended_with(1008).await;
    }
    ann.heartbeat().await;
}

/// The permit has changed between `connect` and the beginning of the connection.
async fn a_connection_that_begins_without_a_permit_ends<W: Wire>() {
    let banned = Banned::default();
    banned.lock().expect("sound").insert("eve".to_owned());
    let server = server(&banned);
    let mut eve = Phoenix::<W>::dial_with(server.addr, "&name=eve").await;
    eve.ended_with(1008).await;
    let mut ann = Phoenix::<W>::dial_with(server.addr, "&name=ann").await;
    ann.join("room:1").await;
}
