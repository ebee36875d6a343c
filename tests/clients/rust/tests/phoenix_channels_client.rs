//! The crate `phoenix_channels_client`, which speaks vsn 2.0.0.

use std::sync::Arc;

use phoenix_channels_client::{Channel, ChannelError, Client, Config, Payload, SendError};
use serde_json::{Value, json};
use slackir_clients_rust::{Conformance, DEADLINE};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout;

async fn connect(server: &Conformance) -> Client {
    let url = format!("{}/websocket", server.socket_url());
    let config = Config::new(url.as_str()).expect("a URL");
    let mut client = Client::new(config).expect("a client");
    client.connect().await.expect("a connection");
    client
}

async fn join(client: &Client, topic: &str) -> Arc<Channel> {
    client.join(topic, Some(DEADLINE)).await.expect("joined")
}

/// The payloads of the broadcasts that the channel will hear.
async fn broadcasts(channel: &Channel) -> UnboundedReceiver<Value> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let keep = move |_, payload: &Payload| {
        let payload = payload.clone().into_value().expect("JSON");
        sender.send(payload).expect("the test lives");
    };
    channel.on("bcast", keep).await.expect("subscribed");
    receiver
}

async fn hears(broadcasts: &mut UnboundedReceiver<Value>) -> Value {
    let heard = timeout(DEADLINE, broadcasts.recv()).await;
    heard.expect("a broadcast in time").expect("a broadcast")
}

async fn shout(channel: &Channel, number: u32) {
    let payload = json!({ "number": number });
    channel
        .send_noreply("broadcast", payload)
        .await
        .expect("sent");
}

#[tokio::test]
async fn joins_and_is_refused() {
    let server = Conformance::start();
    let client = connect(&server).await;

    assert!(join(&client, "conf:join").await.is_joined());
    let Err(ChannelError::JoinFailed(refused)) = client.join("conf:deny", Some(DEADLINE)).await
    else {
        panic!("it is refused");
    };
    assert_eq!(*refused, Payload::Value(json!({"reason": "unauthorized"})));
}

#[tokio::test]
async fn gets_ok_and_error_replies() {
    let server = Conformance::start();
    let client = connect(&server).await;
    let channel = join(&client, "conf:replies").await;
    let intricate =
        json!({"unicode": "Grüße 你好 🦀 \0", "nested": [1, [2, {"deep": null}]], "ratio": 0.5});

    let sent = channel.send_with_timeout("echo", intricate.clone(), Some(DEADLINE));
    assert_eq!(
        sent.await.expect("a reply"),
        Payload::Value(intricate.clone())
    );
    let sent = channel.send_with_timeout("reply_error", intricate.clone(), Some(DEADLINE));
    let Err(SendError::Reply(error)) = sent.await else {
        panic!("it is an error");
    };
    assert_eq!(*error, Payload::Value(intricate));
}

#[tokio::test]
async fn hears_another_client_until_it_leaves() {
    let server = Conformance::start();
    let (ann_client, bob_client) = (connect(&server).await, connect(&server).await);
    let ann = join(&ann_client, "conf:broadcasts").await;
    let bob = join(&bob_client, "conf:broadcasts").await;
    let mut heard_by_ann = broadcasts(&ann).await;
    let mut heard_by_bob = broadcasts(&bob).await;

    shout(&bob, 1).await;
    assert_eq!(hears(&mut heard_by_ann).await, json!({"number": 1}));
    assert_eq!(hears(&mut heard_by_bob).await, json!({"number": 1}));

    ann.leave().await;
    // The leave is not answered to the caller; what comes after it on the connection is.
    join(&ann_client, "conf:elsewhere").await;
    shout(&bob, 2).await;
    assert_eq!(hears(&mut heard_by_bob).await, json!({"number": 2}));

    let returned = join(&ann_client, "conf:broadcasts").await;
    let mut heard_again = broadcasts(&returned).await;
    shout(&bob, 3).await;
    assert_eq!(hears(&mut heard_again).await, json!({"number": 3}));
    assert_eq!(heard_by_ann.try_recv().ok(), None);
}
