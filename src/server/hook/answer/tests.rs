use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(body: &Value, kind: CallKind) -> Result<Verdict, InvalidAnswer> {
    Verdict::parse(body.to_string().as_bytes(), kind)
}

fn allowed(body: &Value, kind: CallKind) -> HookAnswer {
    match parse(body, kind) {
        Ok(Verdict::Allowed(answer)) => answer,
        other => panic!("{body} allows, got {other:?}"),
    }
}

/// An answer with everything in it.
fn whole() -> Value {
    json!({
        "ok": true, "reply": [1, "two"], "user": {"name": "Ada"}, "me": {"role": "agent"},
        "payload": "hi", "relay": true, "close": false,
        "do": [
            {"push": "new_room", "payload": {}},
            {"broadcast": "card:created", "payload": {"a": 1}, "to": "others", "store": true},
            {"broadcast": "invite", "topic": "direct:9", "payload": {"to_room": 12}},
            {"broadcast": "mine", "to": "sender"},
            {"broadcast": "ring", "to": {"user.id": [7, "8"]}},
            {"presence": {"state": "playing"}},
        ],
    })
}

#[test]
fn every_part_is_read() {
    let answer = allowed(&whole(), CallKind::Event);
    let object = |json: Value| json.as_object().cloned().expect("an object");
    assert_eq!(answer.reply, Some(RawJson::from(json!([1, "two"]))));
    assert_eq!(answer.user, object(json!({"name": "Ada"})));
    assert_eq!(answer.me, object(json!({"role": "agent"})));
    assert_eq!(answer.payload, Some(RawJson::from(json!("hi"))));
    assert_eq!((answer.relay, answer.close), (Some(true), false));
    let broadcast =
        |event: &str, payload: Value, topic: Option<&str>, to, store| HookAction::Broadcast {
            event: event.to_owned(),
            payload: RawJson::from(payload),
            topic: topic.map(str::to_owned),
            to,
            store,
        };
    let push = |event: &str| HookAction::Push {
        event: event.to_owned(),
        payload: RawJson::EMPTY_OBJECT,
    };
    let labels = Receivers::Labels([("user.id".to_owned(), json!([7, "8"]))].into());
    let expected = [
        push("new_room"),
        broadcast(
            "card:created",
            json!({"a": 1}),
            None,
            Receivers::Others,
            true,
        ),
        broadcast(
            "invite",
            json!({"to_room": 12}),
            Some("direct:9"),
            Receivers::All,
            false,
        ),
        push("mine"),
        broadcast("ring", json!({}), None, labels, false),
        HookAction::Presence(object(json!({"state": "playing"}))),
    ];
    assert_eq!(answer.actions, expected);
}

#[test]
fn a_refusal_has_any_json() {
    for error in [json!("Unauthorized"), json!({"reason": "no"}), json!([1])] {
        let verdict = parse(&json!({"ok": false, "error": error}), CallKind::Join);
        let error = Some(RawJson::from(error));
        assert_eq!(
            verdict,
            Ok(Verdict::Refused {
                error,
                close: false
            })
        );
    }
    let verdict = parse(&json!({"ok": false, "close": true}), CallKind::Event);
    let expected = Verdict::Refused {
        error: None,
        close: true,
    };
    assert_eq!(verdict, Ok(expected));
}

#[test]
fn an_answer_with_anything_wrong_is_refused_whole() {
    let event = CallKind::Event;
    for (body, kind, problem) in [
        (json!({}), event, "no \"ok\""),
        (json!([]), event, "must be an object"),
        (json!([true]), event, "must be an object"),
        (
            json!({"ok": true, "do": [["shout"]]}),
            event,
            "must be an object",
        ),
        (json!("ok"), event, "wrong type"),
        (json!({"ok": 1}), event, "wrong type"),
        (
            json!({"ok": true, "rely": {}}),
            event,
            "unknown field `rely`",
        ),
        (json!({"ok": true, "error": {}}), event, "an \"error\""),
        (json!({"ok": false, "reply": {}}), event, "may only have"),
        (
            json!({"ok": false, "close": true}),
            CallKind::Join,
            "may only have",
        ),
        (json!({"ok": true, "user": []}), event, "wrong type"),
        (json!({"ok": true, "close": "yes"}), event, "wrong type"),
        (
            json!({"ok": true, "reply": {}}),
            CallKind::Connect,
            "\"connect\"",
        ),
        (
            json!({"ok": true, "close": true}),
            CallKind::Join,
            "are for events",
        ),
        (
            json!({"ok": true, "payload": {}}),
            CallKind::Join,
            "are for events",
        ),
        (
            json!({"ok": true, "do": [{}]}),
            event,
            "each item of \"do\"",
        ),
        (json!({"ok": true, "do": ["push"]}), event, "wrong type"),
        (
            json!({"ok": true, "do": [{"shout": "a"}]}),
            event,
            "unknown field `shout`",
        ),
        (
            json!({"ok": true, "do": [{"push": "a", "broadcast": "b"}]}),
            event,
            "one of",
        ),
        (
            json!({"ok": true, "do": [{"push": "a", "to": "all"}]}),
            event,
            "one of",
        ),
        (
            json!({"ok": true, "do": [{"push": "a", "payload": 1}]}),
            event,
            "must be an object",
        ),
        (
            json!({"ok": true, "do": [{"push": "phx_reply"}]}),
            event,
            "phx_",
        ),
        (
            json!({"ok": true, "do": [{"push": ""}]}),
            event,
            "1 to 255 bytes",
        ),
        (
            json!({"ok": true, "do": [{"broadcast": "presence_diff"}]}),
            event,
            "itself sends",
        ),
        (
            json!({"ok": true, "do": [{"broadcast": "a", "to": "some"}]}),
            event,
            "\"to\" must be",
        ),
        (
            json!({"ok": true, "do": [{"broadcast": "a", "topic": ""}]}),
            event,
            "a topic must",
        ),
        (
            json!({"ok": true, "do": [{"broadcast": "a", "topic": "b", "to": "others"}]}),
            event,
            "knows neither",
        ),
        (
            json!({"ok": true, "do": [{"broadcast": "a", "to": "sender", "store": true}]}),
            event,
            "\"store\"",
        ),
        (
            json!({"ok": true, "do": [{"presence": "track"}]}),
            event,
            "wrong type",
        ),
        (
            json!({"ok": true, "do": vec![json!({"push": "a"}); 33]}),
            event,
            "more than 32",
        ),
    ] {
        let error = parse(&body, kind).expect_err(&body.to_string()).to_string();
        assert!(error.contains(problem), "{body}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    for body in [
        &b"{\"ok\":true"[..],
        b"{\"ok\":true} and more",
        b"{\"ok\":true,\"ok\":true}",
        b"{\"ok\":true,\"reply\":\"\\ud800\"}",
        b"{\"ok\":true,\"reply\":1e999}",
        b"\xff",
        b"",
        b"<html>502 Bad Gateway</html>",
    ] {
        assert!(Verdict::parse(body, event).is_err(), "{body:?}");
    }
    let error = parse(&json!({"ok": "s3cret"}), event).expect_err("no answer");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

/// JSON of any form.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in [CallKind::Connect, CallKind::Join, CallKind::Event] {
            prop_assert!(Verdict::parse(&body, kind).is_err());
        }
    }

    /// Bytes of a right answer that were changed: it is refused, or it is an answer of the right form.
    #[test]
    fn changed_bytes_give_no_half_answer(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = whole().to_string().into_bytes();
        let at = at.index(body.len());
        if cut {
            body.truncate(at);
        } else {
            body[at] = byte;
        }
        if let Ok(verdict) = Verdict::parse(&body, CallKind::Event) {
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["ok"].is_boolean()));
            let is_whole = match verdict {
                Verdict::Allowed(answer) => answer.actions.len() == 6,
                Verdict::Refused { .. } => false,
            };
            prop_assert!(is_whole);
        }
    }

    /// A member of another name, at the top or in an action, spoils the whole answer.
    #[test]
    fn an_unknown_member_spoils_the_answer(name in "[a-z_]{1,8}", value in any_json(), at in 0usize..7) {
        let mut body = whole();
        let known = ["ok", "reply", "error", "user", "me", "payload", "relay", "do", "close", "push", "broadcast",
            "presence", "topic", "to", "store"];
        prop_assume!(!known.contains(&&*name));
        let place = if at == 6 { &mut body } else { &mut body["do"][at] };
        place[&name] = value;
        prop_assert!(parse(&body, CallKind::Event).is_err());
    }

    /// Any value in the place of a known member: never a panic, and actions are whole or none.
    #[test]
    fn wrong_values_are_refused_whole(name in prop::sample::select(vec!["push", "broadcast", "presence", "payload",
            "topic", "to", "store"]), value in any_json(), at in 0usize..6) {
        let mut body = whole();
        body["do"][at][name] = value;
        if let Ok(Verdict::Allowed(answer)) = parse(&body, CallKind::Event) {
            prop_assert_eq!(answer.actions.len(), 6);
        }
    }
}
