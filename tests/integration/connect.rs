//! What `connect` sees of a request, and what a mount lets it say.

use std::sync::Arc;

use actix_web::HttpResponse;
use serde_json::json;
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::server::rooms::{Room, router};
use slackir::socket::{ConnectInfo, ConnectRefused, DrainOptions, Params, Socket};
use slackir::transport::{ConnectInfoKey, HandshakeOptions, Serializers};
use slackir::{Assigns, Endpoint, Mount};

use crate::support::process::Process;
use crate::support::server::{Driver, TestServer, over_both_drivers};
use crate::support::wire::{Headers, HttpAnswer, WireClient, http};

over_both_drivers! {
    path_variables_are_parameters_and_win
    only_what_is_configured_is_seen
    the_uri_is_the_one_of_the_request_whatever_forwarding_headers_say
    auth_tokens_come_by_subprotocol_and_by_header
    refusals_without_a_reason_and_panics_have_their_own_answers
    paths_that_are_not_mounted_are_the_applications
    the_first_check_that_fails_answers
    the_answer_is_computed_from_the_key
    only_the_first_origin_counts
    headers_are_pairs_of_name_and_value_and_repeated_ones_repeat
    a_server_that_drains_takes_nobody
    a_mount_may_speak_one_version_alone
}

/// Refuses everybody and says in the answer what it saw.
struct Witness;

/// Asks `id` to panic.
struct Nameless;

impl Socket for Witness {
    async fn connect(
        &self,
        params: &Params,
        info: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        match params.get("do") {
            Some("panic in id") => {
                assigns.insert(Nameless);
                return Ok(());
            }
            Some("panic") => panic!("in connect"),
            Some("refuse") => return Err(ConnectRefused::new()),
            Some("accept") => return Ok(()),
            Some("ask_token") => {
                let is_known = info.auth_token.as_deref() == Some("sekret");
                return is_known.then_some(()).ok_or(ConnectRefused::new());
            }
            _ => {}
        }
        let seen = json!({
            "params": params.as_map(),
            "peer": info.peer_data.map(|peer| peer.ip().to_string()),
            "trace": info.trace_context_headers,
            "x": info.x_headers,
            "ws": info.sec_websocket_headers,
            "uri": info.uri.as_ref().map(|uri| format!("{}://{}{}", uri.scheme, uri.host, uri.path)),
            "port": info.uri.as_ref().and_then(|uri| uri.port),
            "agent": info.user_agent,
            "token": info.auth_token,
        });
        Err(ConnectRefused::because(seen.to_string()))
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        assert!(assigns.get::<Nameless>().is_none(), "in id");
        None
    }
}

fn witness(connect_info: Vec<ConnectInfoKey>, auth_token: bool) -> TestServer {
    TestServer::start(move || {
        let handshake = HandshakeOptions::default()
            .connect_info(connect_info)
            .auth_token(auth_token)
            .subprotocols(vec!["mqtt".to_owned()])
            .error_handler(Arc::new(|refused: &ConnectRefused| {
                HttpResponse::TooManyRequests().body(refused.reason().to_owned())
            }));
        let transports = TransportOptions::default()
            .websocket("project/:project_id")
            .longpoll("poll")
            .handshake(handshake);
        let mount = |path| {
            let router = router(&[Room::default()]);
            Mount::new(path, Witness, router).transports(transports.clone())
        };
        Endpoint::builder(PubSub::new())
            .mount(mount("/ws/:user/:_hidden"))
            .mount(mount("/other"))
            .mount(mount("/v/:vsn"))
            .build()
    })
}

async fn ask(server: &TestServer, path: &str, headers: Headers<'_>) -> HttpAnswer {
    let opened = WireClient::open(server.addr, path, headers)
        .await
        .expect("an answer");
    opened.map_or_else(|answer| answer, |client| client.answer.clone())
}

async fn seen(server: &TestServer, path: &str, headers: Headers<'_>) -> serde_json::Value {
    let answer = ask(server, path, headers).await;
    assert_eq!(answer.status, 429, "the error handler answers");
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Requirements 1, 3, 14.
async fn path_variables_are_parameters_and_win() {
    let server = witness(vec![], false);
    let seen = seen(
        &server,
        "/ws/7/x/project/p%201?vsn=2.0.0&user=8&a[b]=1",
        &[],
    )
    .await;
    let params = json!({"vsn": "2.0.0", "user": "7", "project_id": "p 1", "a": {"b": "1"}});
    assert_eq!(seen["params"], params);
    // The vsn is a parameter like any other.
    let answer = ask(&server, "/v/3.0.0/project/p?vsn=2.0.0", &[]).await;
    assert_eq!(answer.status, 403);
}

/// Requirements 17, 40, 41.
async fn only_what_is_configured_is_seen() {
    use ConnectInfoKey::{
        PeerData, SecWebsocketHeaders, TraceContextHeaders, Uri, UserAgent, XHeaders,
    };
    let headers: Headers<'_> = &[
        ("X-One", Some("1")),
        ("X-Two", Some("z\u{fc}")),
        ("X-Two", Some("2")),
        ("traceparent", Some("00-a")),
        ("User-Agent", Some("test")),
    ];
    let path = "/other/project/p?vsn=2.0.0";
    let nothing = seen(&witness(vec![], false), path, headers).await;
    assert_eq!(
        (&nothing["x"], &nothing["peer"], &nothing["uri"]),
        (&json!([]), &json!(null), &json!(null))
    );
    let keys = vec![
        PeerData,
        TraceContextHeaders,
        XHeaders,
        SecWebsocketHeaders,
        Uri,
        UserAgent,
    ];
    let all = seen(&witness(keys, false), path, headers).await;
    let named = |name: &str| {
        let pairs = all["x"].as_array().into_iter().flatten();
        let named = pairs.filter(|pair| pair[0] == name);
        named.map(|pair| pair[1].clone()).collect::<Vec<_>>()
    };
    assert_eq!(named("x-one"), ["1"]);
    assert_eq!(named("x-two"), ["z\u{fc}", "2"]);
    assert_eq!(all["trace"], json!([["traceparent", "00-a"]]));
    assert_eq!(
        (&all["peer"], &all["agent"]),
        (&json!("127.0.0.1"), &json!("test"))
    );
    assert_eq!(all["uri"], "http://127.0.0.1/other/project/p");
    let ws = all["ws"].as_array().expect("a list");
    assert!(ws.contains(&json!(["sec-websocket-version", "13"])));
}

/// Anybody can send these headers; Phoenix believes none of them either.
async fn the_uri_is_the_one_of_the_request_whatever_forwarding_headers_say() {
    let server = witness(vec![ConnectInfoKey::Uri], false);
    let headers: Headers<'_> = &[
        ("Host", Some("chat.test:81")),
        ("Forwarded", Some("host=evil.test;proto=https")),
        ("X-Forwarded-Host", Some("evil.test")),
        ("X-Forwarded-Proto", Some("https")),
    ];
    let path = "/other/project/p?vsn=2.0.0";
    let first = seen(&server, path, headers).await;
    assert_eq!(first["uri"], "http://chat.test/other/project/p");
    assert_eq!(first["port"], 81);
    let without_port = seen(&server, path, &[("Host", Some("chat.test"))]).await;
    assert_eq!(without_port["port"], 80);
}

/// Requirements 1, 32, 34, 35, 39.
async fn auth_tokens_come_by_subprotocol_and_by_header() {
    let server = witness(vec![], true);
    let path = "/other/project/p?vsn=2.0.0";
    let offer = [(
        "Sec-WebSocket-Protocol",
        Some("phoenix, base64url.bearer.phx.c2VrcmV0"),
    )];
    assert_eq!(seen(&server, path, &offer).await["token"], "sekret");
    let accepted = ask(&server, "/other/project/p?vsn=2.0.0&do=accept", &offer).await;
    assert_eq!(
        accepted
            .headers
            .get("sec-websocket-protocol")
            .map(String::as_str),
        Some("phoenix")
    );
    let foreign = [("Sec-WebSocket-Protocol", Some("soap"))];
    assert_eq!(ask(&server, path, &foreign).await.status, 403);
    // Long-polling has no error handler: the answer is the protocol's, so `connect` itself asks.
    let header = [("X-Phoenix-AuthToken", Some("sekret"))];
    assert_eq!(first_poll(&server, &header).await["status"], 410);
    let another = [("X-Phoenix-AuthToken", Some("guessed"))];
    assert_eq!(first_poll(&server, &another).await["status"], 403);
    assert_eq!(first_poll(&server, &[]).await["status"], 403);
    let deaf = witness(vec![], false);
    assert_eq!(first_poll(&deaf, &header).await["status"], 403);
}

/// The answer to a long-polling client that `connect` lets in if it has the token.
async fn first_poll(server: &TestServer, headers: Headers<'_>) -> serde_json::Value {
    let path = "/other/poll?vsn=2.0.0&do=ask_token";
    let poll = http(server.addr, "GET", path, headers, b"")
        .await
        .expect("an answer");
    assert_eq!(poll.status, 200);
    serde_json::from_slice(&poll.body).expect("JSON")
}

/// Requirements 16, 17, 19.
async fn refusals_without_a_reason_and_panics_have_their_own_answers() {
    let server = witness(vec![], false);
    for (what, websocket, longpoll) in [
        ("refuse", 403, 200),
        ("panic", 500, 500),
        ("panic+in+id", 500, 500),
    ] {
        let path = format!("/other/project/p?vsn=2.0.0&do={what}");
        assert_eq!(ask(&server, &path, &[]).await.status, websocket, "{what}");
        let path = format!("/other/poll?vsn=2.0.0&do={what}");
        let poll = http(server.addr, "GET", &path, &[], b"")
            .await
            .expect("an answer");
        assert_eq!(poll.status, longpoll, "{what}");
    }
}

/// Requirements 2, 4.
async fn paths_that_are_not_mounted_are_the_applications() {
    let server = witness(vec![], false);
    for path in [
        "/other",
        "/other/websocket",
        "/other/longpoll",
        "/Other/poll",
        "/other/p%6Fll",
    ] {
        let answer = http(server.addr, "GET", path, &[], b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(ask(&server, path, &[]).await.status, 404, "{path}: upgrade");
    }
    let slashes = ask(&server, "//other///project/p/?vsn=2.0.0&do=accept", &[]).await;
    assert_eq!(slashes.status, 101);
}

/// Each request fails the check it is named for and the next one, and the last: nothing asks for an
/// upgrade. Origin, token, subprotocol and vsn have one answer, so that their order among themselves
/// cannot be seen; that they come before `connect` can, which would answer 429.
/// Requirements 7, 13.
async fn the_first_check_that_fails_answers() {
    let server = witness(vec![], true);
    let evil = ("Origin", Some("http://evil.test"));
    let protocol = |offer| ("Sec-WebSocket-Protocol", Some(offer));
    let broken = protocol("soap, base64url.bearer.phx.%");
    let foreign = protocol("soap");
    for (check, method, query, headers, status) in [
        ("method", "POST", "x=%ff", vec![], 400),
        ("query", "GET", "x=%ff", vec![evil], 400),
        ("origin", "GET", "vsn=2.0.0", vec![evil, broken], 403),
        ("token", "GET", "vsn=2.0.0", vec![broken], 403),
        ("subprotocol", "GET", "vsn=9.0.0", vec![foreign], 403),
        ("vsn", "GET", "vsn=9.0.0", vec![], 403),
        ("connect", "GET", "vsn=2.0.0", vec![], 429),
        ("upgrade", "GET", "vsn=2.0.0&do=accept", vec![], 400),
    ] {
        let path = format!("/other/project/p?{query}");
        let answer = http(server.addr, method, &path, &headers, b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status, status, "{check}");
        let body = String::from_utf8_lossy(&answer.body);
        match check {
            "query" => assert_eq!(body, "the query string is not UTF-8"),
            "upgrade" => assert!(body.contains("'connection' header must"), "{body}"),
            "connect" => assert!(body.contains("\"vsn\":\"2.0.0\""), "{body}"),
            _ => assert_eq!(body, "", "{check}"),
        }
    }
}

/// Requirements 10, 20.
async fn the_answer_is_computed_from_the_key() {
    let server = witness(vec![], false);
    let path = "/other/project/p?vsn=2.0.0&do=accept";
    // actix-ws insists on 16 bytes.
    let odd = |accept| (Driver::current() == Driver::Direct).then_some(accept);
    for (key, accept) in [
        (
            "dGhlIHNhbXBsZSBub25jZQ==",
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ),
        (
            "AAAAAAAAAAAAAAAAAAAAAA==",
            Some("ICX+Yqv66kxgM0FcWaLWlFLwTAI="),
        ),
        ("AAAAAAAAAAAAAAAAAAAA", odd("/3M+5HFywElctYU7s1JYO+XV104=")),
        ("x", odd("JVxkmtKFjDcI/Pm/AGPEKSN6wT8=")),
        ("", None),
    ] {
        let answer = ask(&server, path, &[("Sec-WebSocket-Key", Some(key))]).await;
        let status = if accept.is_some() { 101 } else { 400 };
        assert_eq!(answer.status, status, "{key}");
        let computed = answer.headers.get("sec-websocket-accept");
        assert_eq!(computed.map(String::as_str), accept, "{key}");
    }
}

/// Requirement 23.
async fn only_the_first_origin_counts() {
    let server = witness(vec![], false);
    let path = "/other/project/p?vsn=2.0.0&do=accept";
    let own = format!("http://{}", server.addr);
    let [good, evil] = [&*own, "http://evil.test"].map(|name| ("Origin", Some(name)));
    for (origins, status) in [([good, evil], 101), ([evil, good], 403)] {
        assert_eq!(
            ask(&server, path, &origins).await.status,
            status,
            "{origins:?}"
        );
    }
}

/// Requirement 41.
async fn headers_are_pairs_of_name_and_value_and_repeated_ones_repeat() {
    let keys = vec![
        ConnectInfoKey::XHeaders,
        ConnectInfoKey::SecWebsocketHeaders,
        ConnectInfoKey::TraceContextHeaders,
    ];
    let server = witness(keys, false);
    let headers = [
        ("X-One", Some("1")),
        ("Sec-WebSocket-Test", Some("2")),
        ("tracestate", Some("3")),
        ("X-One", Some("4")),
        ("Sec-WebSocket-Test", Some("5")),
        ("tracestate", Some("6")),
        ("Xenon", Some("7")),
    ];
    let seen = seen(&server, "/other/project/p?vsn=2.0.0", &headers).await;
    assert_eq!(seen["x"], json!([["x-one", "1"], ["x-one", "4"]]));
    assert_eq!(
        seen["trace"],
        json!([["tracestate", "3"], ["tracestate", "6"]])
    );
    let ws = seen["ws"].as_array().expect("a list").iter();
    let repeated: Vec<_> = ws.filter(|pair| pair[0] == "sec-websocket-test").collect();
    assert_eq!(
        repeated,
        [
            &json!(["sec-websocket-test", "2"]),
            &json!(["sec-websocket-test", "5"])
        ]
    );
}

async fn a_server_that_drains_takes_nobody() {
    let server = witness(vec![], false);
    server.endpoint.drain(DrainOptions::default()).await;
    for vsn in ["2.0.0", "9.0.0"] {
        let path = format!("/other/project/p?vsn={vsn}&do=accept");
        assert_eq!(ask(&server, &path, &[]).await.status, 503);
        let path = format!("/other/poll?vsn={vsn}&do=accept");
        let poll = http(server.addr, "GET", &path, &[], b"").await;
        assert_eq!(poll.expect("an answer").status, 503);
    }
}

async fn a_mount_may_speak_one_version_alone() {
    for (serializers, first, second) in [
        (Serializers::All, true, true),
        (Serializers::V1, true, false),
        (Serializers::V2, false, true),
    ] {
        let server = TestServer::start(move || {
            let transports = TransportOptions::default()
                .handshake(HandshakeOptions::default().serializers(serializers));
            Endpoint::builder(PubSub::new())
                .mount(
                    Mount::new("/socket", Witness, router(&[Room::default()]))
                        .transports(transports),
                )
                .build()
        });
        for (vsn, spoken) in [("1.0.0", first), ("2.0.0", second)] {
            let path = format!("/socket/websocket?do=accept&vsn={vsn}");
            let opened = WireClient::open(server.addr, &path, &[]).await;
            let answer = opened.expect("an answer");
            let status = answer.map_or_else(|refused| refused.status, |_| 101);
            assert_eq!(
                status,
                if spoken { 101 } else { 403 },
                "{serializers:?} {vsn}"
            );
        }
    }
}

#[actix_web::test]
async fn a_socket_has_further_paths() {
    let config = "persist = \"off\"\nsocket_paths = \"/api/socket,/user_socket,/socket\"";
    let (_dir, server) = Process::configured(config, &[]);
    for path in ["/socket", "/api/socket", "/user_socket"] {
        let websocket = format!("{path}/websocket?vsn=2.0.0");
        let opened = WireClient::open(server.addr, &websocket, &[]).await;
        assert!(opened.expect("an answer").is_ok(), "{path}");
        let longpoll = format!("{path}/longpoll?vsn=2.0.0");
        let answer = http(server.addr, "GET", &longpoll, &[], b"").await;
        assert_eq!(answer.expect("an answer").status, 200, "{path}");
    }
    let other = WireClient::open(server.addr, "/other/websocket?vsn=2.0.0", &[]).await;
    assert!(other.expect("an answer").is_err());
}
