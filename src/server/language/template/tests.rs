use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::message::RawJson;

const ALL: Scope = Scope::of(&[
    Variable::User,
    Variable::Me,
    Variable::Params,
    Variable::Connect,
    Variable::Token,
    Variable::Payload,
    Variable::Topic,
    Variable::Event,
    Variable::Id,
    Variable::Uuid,
    Variable::Now,
    Variable::Socket,
    Variable::Inserted,
]);

fn values<'a>(user: &'a Value, payload: &'a Value) -> Values<'a> {
    Values {
        user: Some(user),
        payload: Some(payload),
        topic: "room:12:b",
        matched: Some("12:b"),
        event: "say",
        uuid: "u-u",
        now: Some(UNIX_EPOCH + Duration::from_millis(1_764_331_200_123)),
        socket_id: "s1",
        inserted: Some(UNIX_EPOCH + Duration::from_secs(1)),
        ..Values::default()
    }
}

fn render(template: &Value, user: &Value, payload: &Value) -> Value {
    let template = Template::parse(template, ALL).expect("a template");
    let rendered = template.render(&values(user, payload), 1_000_000);
    let text = rendered.expect("short").with_id("1f-2");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_placeholder_alone_keeps_the_type_and_text_is_joined() {
    let user = json!({"id": 7, "name": "Ada", "admin": true, "none": null});
    let payload = json!({"list": [1, {"a": "x"}], "text": "say \"hi\"\n"});
    for (template, expected) in [
        (json!("{user.id}"), json!(7)),
        (json!("{user.admin}"), json!(true)),
        (json!("{payload.list}"), json!([1, {"a": "x"}])),
        (json!("{payload.list.1.a}"), json!("x")),
        (json!("{payload.list.7}"), json!(null)),
        (json!("{payload.text.a}"), json!(null)),
        (json!("{user.none|user.nick|'nobody'}"), json!("nobody")),
        (json!("{user.none|user.name}"), json!("Ada")),
        (
            json!("#{user.id}: {payload.text}{payload.list}!"),
            json!("#7: say \"hi\"\n!"),
        ),
        (json!("{{{user.id}}}"), json!("{7}")),
        (json!("a } b"), json!("a } b")),
        (json!("{'a}|b'}"), json!("a}|b")),
        (json!(""), json!("")),
        (json!("{user.id:string}"), json!("7")),
        (json!("{user.name:int}"), json!(null)),
        (json!("{topic.1.1:int}"), json!(12)),
        (
            json!("{topic}|{topic.1}|{topic.1.2}|{topic.1.3}"),
            json!("room:12:b|12:b|b|"),
        ),
        (json!("{now.ms}"), json!(1_764_331_200_123_i64)),
        (json!("{now.s:string}"), json!("1764331200")),
        (json!("{now.iso}"), json!("2025-11-28T12:00:00.123Z")),
        (json!("{inserted.ms}"), json!(1_000)),
        (json!("{id}"), json!("1f-2")),
        (json!("m-{id}-{uuid}"), json!("m-1f-2-u-u")),
        (json!("{id:int}"), json!(null)),
        (json!("{event}@{socket.id}"), json!("say@s1")),
        (
            json!({"a": [true, 1.5, null, "{user.x}"]}),
            json!({"a": [true, 1.5, null, null]}),
        ),
        (json!({"a\"b": "{payload}"}), json!({"a\"b": payload})),
    ] {
        assert_eq!(render(&template, &user, &payload), expected, "{template}");
    }
}

#[test]
fn a_mistake_is_found_when_the_template_is_parsed() {
    let deep = format!("{{payload{}}}", ".a".repeat(9));
    let many: Vec<_> = (0..65).collect();
    for (template, problem) in [
        (json!("{user.id"), "a brace is not closed"),
        (json!("{usr.id}"), "unknown variable; here are"),
        (json!("{}"), "unknown variable"),
        (json!("{user..id}"), "names with dots"),
        (json!("{user.id:float}"), "must be \":string\" or \":int\""),
        (json!("{'a}"), "a brace is not closed"),
        (json!("{now}"), "must be now.ms, now.s or now.iso"),
        (json!("{topic.2}"), "must be topic, topic.1 or topic.1.2"),
        (json!("{id.x}"), "must be id"),
        (json!({"a": {"b": "{x}"}}), "a: b: {x}: unknown variable"),
        (json!(deep), "at most 8 steps"),
        (json!(many), "at most 64 members"),
        (json!("x".repeat(5_000)), "at most 4096 bytes of text"),
    ] {
        let error = Template::parse(&template, ALL).expect_err("invalid");
        assert!(error.to_string().contains(problem), "{template}: {error}");
    }
    let narrow = Scope::of(&[Variable::User]);
    let error = Template::parse(&json!("{payload}"), narrow).expect_err("not there");
    assert_eq!(
        error.to_string(),
        "{payload}: unknown variable; here are user"
    );
}

#[test]
fn a_template_knows_what_it_names() {
    let template = Template::parse(&json!({"a": "{user.id|payload.x}"}), ALL).expect("valid");
    assert_eq!(
        template.used(),
        Scope::of(&[Variable::User, Variable::Payload])
    );
    assert_eq!(template.keys(), ["a"]);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1_000_i32..1_000).prop_map(|n| Value::from(f64::from(n) / 4.0)),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("[a-c]{1,2}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn template_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "\\PC{0,6}",
        Just("{user.a}".to_owned()),
        Just("{payload.a.b|payload.b:string|'x'}".to_owned()),
        Just("{payload}".to_owned()),
        Just("{id}".to_owned()),
        Just("{{".to_owned()),
        "\\{[a-z.:|']{0,12}\\}",
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn output_is_valid_json_and_bounded(
        texts in prop::collection::vec(template_text(), 1..4),
        user in json_value(),
        payload in json_value(),
        max in 0_usize..2_000,
    ) {
        let template = json!({"t": texts, "first": texts[0]});
        let Ok(template) = Template::parse(&template, ALL) else { return Ok(()); };
        if let Ok(rendered) = template.render(&values(&user, &payload), max) {
            let text = rendered.with_id("1f-2");
            prop_assert!(text.len() <= max + 4 * 4 * 20);
            let value: Value = serde_json::from_str(&text).expect("JSON");
            prop_assert!(value.is_object());
        }
    }

    #[test]
    fn nobody_forges_a_stamp(payload in json_value(), user in json_value()) {
        let template = json!({"a": "{user.a|'x'}", "id": "{id}", "b": ["{id}"]});
        let stamp = Template::parse(&template, ALL).expect("a template");
        let rendered = stamp.render(&values(&user, &payload), 1_000_000).expect("short");
        let payload_json = RawJson::from(payload.clone());
        let stamped = Rendered::from(&payload_json).stamped(&rendered, stamp.keys());
        prop_assert_eq!(stamped.is_some(), payload.is_object());
        if let (Some(stamped), Value::Object(mut expected)) = (stamped, payload) {
            let text = stamped.with_id("1f-2");
            for key in ["a", "id", "b"] {
                let written = text.matches(&format!("\"{key}\":")).count();
                let deeper = Value::Object(expected.clone());
                prop_assert!(written >= 1, "{} {}", text, deeper);
            }
            let stamp: Value = serde_json::from_str(&rendered.with_id("1f-2")).expect("JSON");
            expected.extend(stamp.as_object().expect("a table").clone());
            // The text of a number may be shorter than the number was.
            let expected: Value = serde_json::from_str(&Value::Object(expected).to_string()).expect("JSON");
            let stamped: Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(stamped, expected);
        }
    }

    #[test]
    fn a_value_alone_keeps_its_type(payload in json_value()) {
        prop_assume!(!payload.is_null());
        let rendered = render(&json!("{payload}"), &json!({}), &payload);
        // The text of a number may be shorter than the number was.
        let again: Value = serde_json::from_str(&payload.to_string()).expect("JSON");
        prop_assert_eq!(rendered, again);
    }
}
