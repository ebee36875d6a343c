//! Lists of topics, members and connections, and the end of those that a filter selects.

use std::time::{Duration, SystemTime};

use serde_json::json;
use slackir::endpoint::Mount;
use slackir::prelude::*;
use slackir::pubsub::{Listener, TopicOrder};
use slackir::socket::{ConnectionFilter, Traffic};
use slackir::{Assigns, Endpoint};

use crate::support::phoenix::Phoenix;
use crate::support::server::TestServer;
use crate::support::transport::{Wire, both_transports, over_both_transports};

struct Named;

#[derive(Clone)]
struct Name(String);

impl Socket for Named {
    async fn connect(
        &self,
        params: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        if let Some(name) = params.get("name") {
            assigns.insert(Name(name.to_owned()));
        }
        Ok(())
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        let Name(name) = assigns.get::<Name>()?;
        Some(format!("users:{name}"))
    }

    fn user(&self, assigns: &Assigns) -> Option<String> {
        assigns.get::<Name>().map(|Name(name)| name.clone())
    }
}

struct Room;

impl Channel for Room {
    type Info = ();

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        ctx.subscribe("news");
        Ok(Join::ok(Self))
    }
}

fn server() -> TestServer {
    TestServer::start(|| {
        let router = SocketRouter::new().channel::<Room>("room:*");
        Endpoint::builder(PubSub::new())
            .mount(Mount::new("/socket", Named, router).transports(both_transports()))
            .build()
    })
}

fn of(user: &str) -> ConnectionFilter {
    ConnectionFilter::default().user(user.to_owned())
}

over_both_transports! {
    topics_members_and_connections_are_listed
    connections_are_ended_by_user_address_and_id
}

async fn topics_members_and_connections_are_listed<W: Wire>() {
    let server = server();
    let endpoint = &server.endpoint;
    let before = SystemTime::now() - Duration::from_secs(2);
    let mut ann = Phoenix::<W>::dial_with(server.addr, "&name=ann").await;
    ann.join("room:1").await;
    ann.join("room:2").await;
    let mut bob = Phoenix::<W>::dial_with(server.addr, "&name=bob").await;
    bob.join("room:1").await;
    let mut idle = Phoenix::<W>::dial_with(server.addr, "").await;
    idle.heartbeat().await;
    endpoint
        .broadcast("room:2", "news", json!({}))
        .await
        .expect("sent");
    let _outside = endpoint.subscribe("room:1");

    // Neither the ids of sockets nor topics that only listeners have.
    let topics = endpoint.list_topics("", TopicOrder::Members, 10).await;
    let seen = topics
        .topics
        .iter()
        .map(|it| (&*it.topic, it.members, it.broadcasts));
    assert!(seen.eq([("room:1", 2, 0), ("room:2", 1, 1)]), "{topics:?}");
    assert_eq!(topics.topics[0].last_message, None);
    let topics = endpoint
        .list_topics("room:", TopicOrder::Broadcasts, 1)
        .await;
    assert_eq!((&*topics.topics[0].topic, topics.total), ("room:2", 2));
    assert!(!topics.topics[0].is_saved);
    let last = topics.topics[0]
        .last_message
        .expect("it was sent a moment ago");
    assert!(before < last && last <= SystemTime::now(), "{topics:?}");
    assert_eq!(
        endpoint
            .list_topics("room:2x", TopicOrder::Topic, 1)
            .await
            .total,
        0
    );

    let all = endpoint.list_sockets(ConnectionFilter::default(), 2).await;
    assert_eq!((all.total, all.is_complete), (3, true));
    let users = all.sockets.iter().map(|socket| socket.user.as_deref());
    assert!(users.eq([None, Some("bob")]), "the newest first: {all:?}");
    let of_ann = endpoint.list_sockets(of("ann"), 10).await;
    let [socket] = &*of_ann.sockets else {
        panic!("one connection, got {of_ann:?}");
    };
    let mut topics = socket.topics.clone();
    topics.sort();
    assert_eq!(topics, ["room:1", "room:2"]);
    assert_eq!(socket.socket_id.as_deref(), Some("users:ann"));
    assert_eq!(socket.address, Some(server.addr.ip()));
    assert_eq!(socket.transport, W::PATH);
    assert!(before < socket.since && socket.since <= SystemTime::now());
    let Traffic {
        received_bytes,
        sent_bytes,
        limited,
        ..
    } = socket.traffic;
    assert!(received_bytes > 20 && sent_bytes > 20, "{socket:?}");
    assert_eq!((limited, of_ann.traffic), (0, socket.traffic));
    assert!(all.traffic.received_bytes > 0);
    let members = endpoint.members("room:1", 1).await;
    assert_eq!((members.sockets.len(), members.total), (1, 2));
    assert_eq!(members.sockets[0].user.as_deref(), Some("bob"));
    let far = ConnectionFilter::default().address([192, 0, 2, 1].into());
    assert_eq!(endpoint.list_sockets(far, 10).await.total, 0);
}

async fn connections_are_ended_by_user_address_and_id<W: Wire>() {
    let server = server();
    let endpoint = &server.endpoint;
    let dial =
        async |name: &str| Phoenix::<W>::dial_with(server.addr, &format!("&name={name}")).await;
    let (mut ann, mut other, mut bob) = (dial("ann").await, dial("ann").await, dial("bob").await);
    ann.join("room:1").await;
    // The answer to a handshake may come before its connection is on the list.
    other.heartbeat().await;
    let listed = endpoint.list_sockets(of("ann"), 9).await.sockets;
    let ended: Vec<_> = listed.iter().map(|socket| socket.id).collect();
    assert_eq!(endpoint.disconnect(of("ann")).await, 2);
    ann.ended_with(1001).await;
    other.ended_with(1001).await;
    bob.heartbeat().await;
    let left = endpoint.list_sockets(of("ann"), 9).await.sockets;
    // The last poll of a session that has ended begins another.
    assert!(left.iter().all(|socket| !ended.contains(&socket.id)));
    let listed = endpoint.list_sockets(of("bob"), 1).await;
    let one = |id| ConnectionFilter::default().id(id);
    let id = listed.sockets[0].id;
    let none = (id.to_string() + "0").parse().expect("a number");
    assert_eq!(endpoint.disconnect(one(none)).await, 0);
    assert_eq!(endpoint.disconnect(one(id)).await, 1);
    bob.ended_with(1001).await;
    let mut cleo = dial("cleo").await;
    cleo.heartbeat().await;
    let near = ConnectionFilter::default().address(server.addr.ip());
    assert!(endpoint.disconnect(near).await >= 1);
    cleo.ended_with(1001).await;
}

#[actix_web::test]
async fn a_listener_that_is_too_slow_learns_how_much_it_has_missed() {
    let pubsub = PubSub::new();
    let mut listener = Listener::new(&pubsub);
    listener.subscribe("room:1");
    for n in 0..1_030 {
        pubsub
            .broadcast("room:1", "n", json!({ "n": n }))
            .await
            .expect("sent");
    }
    for _ in 0..1_024 {
        listener.recv().await.expect("it is kept");
    }
    let lagged = listener.recv().await.err();
    assert_eq!(lagged.map(|lagged| lagged.missed), Some(6));
    pubsub
        .broadcast("room:1", "n", json!({}))
        .await
        .expect("sent");
    assert!(listener.recv().await.is_ok());
}
