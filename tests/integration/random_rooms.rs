//! Random configurations and payloads: nothing panics, no message is over its bound, and no stamp is forged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use slackir::server::MemoryRooms;
use slackir::testing::TestSocket;

const TOPIC: &str = "room:1";
/// The `max_message_bytes` of the rooms.
const MAX: usize = 300;
/// Configurations, and payloads for each.
const CONFIGURATIONS: u32 = 500;
const PAYLOADS: usize = 20;

/// The values of stamps: templates, and what they become for Ada.
fn stamps() -> impl Strategy<Value = Vec<(String, usize)>> {
    prop::collection::vec((name(), 0..STAMPS.len()), 1..4)
}

/// A template, and whether a value of a message is what it may become. The second argument is the payload of the push.
type Stamp = (&'static str, fn(&Value, &Value) -> bool);

const STAMPS: &[Stamp] = &[
    ("{user.name}", |value, _| value == "ada"),
    ("{user.id}", |value, _| *value == 7),
    ("{user.none}", |value, _| value.is_null()),
    ("no {user.id} of {topic}", |value, _| {
        value == "no 7 of room:1"
    }),
    ("{topic.1:int}", |value, _| *value == 1),
    ("{id}", |value, _| {
        value.as_str().is_some_and(|id| !id.is_empty())
    }),
    ("{uuid}", |value, _| {
        value.as_str().is_some_and(|uuid| uuid.len() == 36)
    }),
    ("{now.ms}", |value, _| {
        value.as_u64() > Some(1_700_000_000_000)
    }),
    ("{now.iso}", |value, _| {
        value.as_str().is_some_and(|time| time.ends_with('Z'))
    }),
    ("{payload.a}", |value, payload| *value == payload["a"]),
    (
        "{payload.a|'nothing'}",
        |value, payload| match &payload["a"] {
            Value::Null => value == "nothing",
            a => value == a,
        },
    ),
];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "name", "__proto__", "é\"\\", "_meta", " "])
        .prop_map(str::to_owned)
}

/// Any JSON of a few levels.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        "[a-z{}|'\"\\\\]{0,200}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..5)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

/// The other keys of a rule.
fn others() -> impl Strategy<Value = String> {
    let payload = prop_oneof![
        Just(""),
        Just("payload = { a = \"{payload.a}\", all = \"{payload}\" }\n"),
        Just("payload = { name = \"{payload.name}\", nested = [\"{payload.b}\", 1] }\n"),
        Just("payload = \"{payload}\"\n"),
    ];
    let require = prop_oneof![
        Just(""),
        Just("require = { a = \"any?\" }\n"),
        Just("require = { a = \"string 0..50\" }\n"),
        Just("require = \"object\"\n"),
    ];
    let set = prop_oneof![Just(""), Just("set = { last = \"{payload.a}\" }\n")];
    let store = prop_oneof![Just(""), Just("store = false\n")];
    (payload, require, set, store).prop_map(|parts| {
        let (payload, require, set, store) = parts;
        [payload, require, set, store].concat()
    })
}

/// Ada pushes the payload; what she is answered, and the message that Bob gets if there is one.
async fn said(
    ada: &mut TestSocket,
    bob: &mut TestSocket,
    payload: &Value,
) -> (Value, Option<Value>) {
    let reference = ada.push(TOPIC, "say", payload.clone());
    let (status, response) = ada.reply(&reference).await;
    let message = match &*status {
        "ok" => Some(bob.next_broadcast("said").await),
        _ => None,
    };
    (response, message)
}

#[test]
fn stamps_are_never_forged_and_messages_are_bounded() {
    let system = actix_rt::System::new();
    let mut runner = TestRunner::new(Config::with_cases(CONFIGURATIONS));
    let payloads = prop::collection::vec(any_json(), PAYLOADS);
    let cases = (stamps(), others(), payloads);
    let tested = runner.run(&cases, |(stamps, others, payloads)| {
        let stamps: BTreeMap<String, usize> = stamps.into_iter().collect();
        // A text of JSON is one of TOML.
        let quoted = |text: &str| Value::from(text).to_string();
        let table = stamps.iter().map(|(name, stamp)| {
            let (template, _) = STAMPS[*stamp];
            format!("{} = {}", quoted(name), quoted(template))
        });
        let table = table.collect::<Vec<_>>().join(", ");
        let config = format!(
            "[identity]\nfields = {{ name = \"ada\", id = 7 }}\n\
             [[rooms]]\ntopics = \"room:*\"\nhistory = \"none\"\nmax_message_bytes = {MAX}\n\
             [rooms.on.say]\nas = \"said\"\nreply = true\nstamp = {{ {table} }}\n{others}"
        );
        let rooms = MemoryRooms::from_toml(&config);
        let rooms = rooms.unwrap_or_else(|error| panic!("{config}: {error}"));
        system.block_on(async {
            let connect = || TestSocket::connect(rooms.endpoint(), "/socket", json!({}));
            let (mut ada, mut bob) = (connect().await.expect("ada"), connect().await.expect("bob"));
            for client in [&mut ada, &mut bob] {
                client.subscribe_and_join(TOPIC, json!({})).await;
            }
            for payload in payloads {
                let (answer, message) = said(&mut ada, &mut bob, &payload).await;
                let Some(message) = message else {
                    let reasons = [json!("invalid payload"), json!("message too long")];
                    prop_assert!(reasons.contains(&answer["reason"]), "{config}: {answer}");
                    continue;
                };
                for (name, stamp) in &stamps {
                    let (template, fits) = STAMPS[*stamp];
                    let value = &message[name];
                    prop_assert!(
                        fits(value, &payload),
                        "{name} = {template}: {value} of {payload}"
                    );
                }
                // Ids of 20 characters at most come on top.
                let length = message.to_string().len();
                prop_assert!(length <= MAX + 100, "{length}: {message}");
            }
            Ok(())
        })
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
}

/// A file with a mistake is refused in one line, whatever the mistake.
#[test]
fn a_file_with_a_mistake_is_one_line() {
    let example: Vec<&str> = include_str!("../../slackir.example.toml").lines().collect();
    let place = 0..example.len();
    let changes = prop::collection::vec((place, "[ -~]{0,12}"), 1..4);
    let mut runner = TestRunner::new(Config::with_cases(1_000));
    let tested = runner.run(&changes, |changes| {
        let mut lines: Vec<String> = example
            .iter()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with([' ', '#']) => setting.to_owned(),
                _ => (*line).to_owned(),
            })
            .collect();
        for (place, text) in changes {
            let line = &mut lines[place];
            let cut = line.floor_char_boundary(line.len() / 2);
            line.replace_range(cut.., &text);
        }
        if let Err(error) = MemoryRooms::from_toml(&lines.join("\n")) {
            let error = error.to_string();
            prop_assert!(!error.is_empty() && !error.contains('\n'), "{error}");
        }
        Ok(())
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
}
