//! Messages that Erlang has written: `tests/fixtures/phoenix_bridge/messages.exs` says how they were made.

use serde_json::{Value, json};

use super::*;

const MESSAGES: &str = include_str!("../../../tests/fixtures/phoenix_bridge/messages.txt");
const TOPIC: &str = "random:lobby";

fn message(name: &str) -> Vec<u8> {
    let mut lines = MESSAGES.lines().filter_map(|line| line.split_once(' '));
    let line = lines.find(|(found, _)| *found == name);
    let (_, hex) = line.unwrap_or_else(|| panic!("messages.txt has {name}"));
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex digits"))
        .collect()
}

fn peer() -> PhoenixPeer {
    PhoenixPeer::new("MyApp.PubSub", "slackir")
}

/// The topic and the event of a message. `Ok(None)`: it is not for this cluster.
fn read(message: &[u8]) -> Result<Option<(String, Live)>, Untranslatable> {
    let Some(envelope) = peer().open(message)? else {
        return Ok(None);
    };
    let topic = envelope.topic.to_string();
    Ok(Some((topic, envelope.broadcast()?)))
}

fn shown(name: &str) -> (String, String, Content) {
    let read = read(&message(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (topic, live) = read.unwrap_or_else(|| panic!("{name} is for this cluster"));
    assert_eq!(live.direction, Direction::All);
    (topic, live.event.to_string(), live.payload)
}

fn json_of(content: &Content) -> Value {
    match content {
        Content::Json(text) => serde_json::from_str(text).expect("JSON"),
        Content::Binary(_) => panic!("JSON, not {content:?}"),
    }
}

#[test]
fn a_channel_has_the_name_that_the_adapter_gives_it() {
    for (pubsub, channel) in [
        ("MyApp.PubSub", "phx:Elixir.MyApp.PubSub.Adapter"),
        ("Elixir.MyApp.PubSub", "phx:Elixir.MyApp.PubSub.Adapter"),
        ("my_pubsub", "phx:Elixir.my_pubsub.Adapter"),
    ] {
        assert_eq!(PhoenixPeer::new(pubsub, "slackir").channel(), channel);
    }
}

#[test]
fn a_broadcast_of_a_channel_is_read() {
    let (topic, event, payload) = shown("map");
    assert_eq!((&*topic, &*event), (TOPIC, "typing"));
    let expected = json!({
        "name": "zoë", "n": -7, "big": 9_007_199_254_740_993_i64, "pi": 3.5, "state": "away", "none": null, "yes": true,
        "no": false, "list": [1, "two", {"3": []}], "bytes": [97, 98, 99],
    });
    assert_eq!(json_of(&payload), expected);
    let (_, _, payload) = shown("compressed");
    assert_eq!(json_of(&payload), json!({"long": "slackir ".repeat(500)}));
    let (_, _, payload) = shown("binary");
    assert_eq!(payload, Content::Binary(Bytes::from_static(&[0, 255, 1])));
    let (topic, event, payload) = shown("disconnect");
    assert_eq!((&*topic, &*event), ("users_socket:1", "disconnect"));
    assert_eq!(json_of(&payload), json!({}));
}

#[test]
fn a_message_says_which_nodes_it_is_for() {
    for name in ["from_a_node_with_a_text_as_name", "for_us_alone"] {
        assert_eq!(shown(name).0, TOPIC);
    }
    for name in ["our_own", "for_another_node"] {
        assert_eq!(read(&message(name)), Ok(None), "{name}");
    }
    // Two clusters beside one application are two nodes.
    let other = PhoenixPeer::new("MyApp.PubSub", "other");
    assert!(matches!(other.open(&message("our_own")), Ok(Some(_))));
    assert!(matches!(other.open(&message("for_us_alone")), Ok(None)));
}

#[test]
fn what_has_no_counterpart_is_refused() {
    for name in [
        "of_another_topic",
        "no_map",
        "no_utf8",
        "struct",
        "tuple",
        "pid",
        "no_broadcast",
        "another_struct",
        "presence_heartbeat",
        "old",
    ] {
        assert_eq!(read(&message(name)), Err(Untranslatable), "{name}");
    }
}

/// Only for messages that have members here the rest is read.
#[test]
fn the_topic_is_read_before_the_message() {
    for name in ["pid", "presence_heartbeat"] {
        let bytes = message(name);
        let envelope = peer().open(&bytes).expect("its beginning can be read");
        assert_eq!(envelope.expect("it is for this cluster").topic, TOPIC);
    }
}

#[test]
fn no_bytes_do_harm() {
    for name in ["map", "compressed", "presence_heartbeat"] {
        let whole = message(name);
        for end in 0..whole.len() {
            // Without the dispatcher, which nobody reads.
            let _ = read(&whole[..end]);
            let mut damaged = whole.clone();
            damaged[end] ^= 0xff;
            let _ = read(&damaged);
        }
    }
    for rubbish in [&b""[..], b"hello", &[131], &[131, 104, 6], &[131, 80, 0xff]] {
        assert_eq!(read(rubbish), Err(Untranslatable), "{rubbish:?}");
    }
}

#[test]
fn a_live_event_is_written_as_erlang_writes_it() {
    let json = |value: Value| Content::Json(value.to_string().into());
    let map = json!({"name": "zoë", "n": -7, "pi": 3.5, "none": null, "list": [true, "two", {}]});
    let binary = Content::Binary(Bytes::from_static(&[0, 255, 1]));
    for (name, topic, event, payload) in [
        ("written_map", TOPIC, "typing", json(map)),
        ("written_binary", TOPIC, "typing", binary),
        (
            "written_disconnect",
            "users_socket:1",
            "disconnect",
            json(json!({})),
        ),
    ] {
        let written = peer().encode(topic, event, &payload).expect("it is small");
        assert_eq!(written, message(name), "{name}");
        assert_eq!(read(&written), Ok(None), "it comes back and is known");
    }
}

#[test]
fn a_message_has_a_bound_in_both_directions() {
    let payload = |len: usize| Content::Json(json!({"a": "x".repeat(len)}).to_string().into());
    let longest = MAX_SIZE - 300;
    let written = peer().encode(TOPIC, "typing", &payload(longest));
    let written = written.expect("it is below the bound");
    let other = PhoenixPeer::new("MyApp.PubSub", "other");
    let envelope = other.open(&written).expect("readable").expect("for it");
    assert_eq!(
        envelope.broadcast().map(|live| live.payload),
        Ok(payload(longest))
    );
    let refused = peer().encode(TOPIC, "typing", &payload(MAX_SIZE));
    assert_eq!(refused, Err(Untranslatable));
    let mut long = written.to_vec();
    long.resize(MAX_SIZE + 1, 0);
    assert_eq!(read(&long), Err(Untranslatable));
    // A declared length over the bound is refused before anything is inflated.
    let mut compressed = message("compressed");
    compressed[2..6].copy_from_slice(&(MAX_SIZE as u32 + 1).to_be_bytes());
    assert_eq!(read(&compressed), Err(Untranslatable));
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let refused = peer().encode(TOPIC, "typing", &Content::Json(nested.into()));
    assert_eq!(refused, Err(Untranslatable), "it is nested too deeply");
}
