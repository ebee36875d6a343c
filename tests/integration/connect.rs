//! What `connect` sees of a request, and what a mount lets it say.

use std::sync::Arc;

use actix_web::HttpResponse;
use serde_json::json;
use slackir::chat::{Room, router};
use slackir::endpoint::TransportOptions;
use slackir::pubsub::PubSub;
use slackir::socket::{ConnectInfo, ConnectRefused, Params, Socket};
use slackir::transport::{ConnectInfoKey, HandshakeOptions};
use slackir::{Assigns, Endpoint};

use crate::support::server::TestServer;
use crate::support::wire::{Headers, HttpAnswer, WireClient, http};

/// Refuses everybody and says in the answer what it saw.
struct Witness;

impl Socket for Witness {
    async fn connect(
        &self,
        params: &Params,
        info: &ConnectInfo,
        _: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        match params.get("do") {
            Some("panic") => panic!("in connect"),
            Some("refuse") => return Err(ConnectRefused::new()),
            Some("accept") => return Ok(()),
            _ => {}
        }
        let seen = json!({
            "params": params.as_map(),
            "peer": info.peer_data.map(|peer| peer.ip().to_string()),
            "trace": info.trace_context_headers,
            "x": info.x_headers,
            "ws": info.sec_websocket_headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "uri": info.uri.as_ref().map(|uri| format!("{}://{}{}", uri.scheme, uri.host, uri.path)),
            "agent": info.user_agent,
            "token": info.auth_token,
        });
        Err(ConnectRefused::because(seen.to_string()))
    }
}

fn witness(connect_info: Vec<ConnectInfoKey>, auth_token: bool) -> TestServer {
    TestServer::start(move || {
        let handshake = HandshakeOptions {
            connect_info,
            auth_token,
            subprotocols: vec!["mqtt".to_owned()],
            error_handler: Some(Arc::new(|refused: &ConnectRefused| {
                HttpResponse::TooManyRequests().body(refused.reason().to_owned())
            })),
            ..HandshakeOptions::default()
        };
        let transports = TransportOptions {
            websocket: Some("project/:project_id".to_owned()),
            longpoll: Some("poll".to_owned()),
            handshake,
            ..TransportOptions::default()
        };
        Endpoint::builder(PubSub::new())
            .transports(transports)
            .socket("/ws/:user/:_hidden", Witness, router(&[Room::default()]))
            .socket("/other", Witness, router(&[Room::default()]))
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

#[actix_web::test]
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
}

#[actix_web::test]
async fn only_what_is_configured_is_seen() {
    use ConnectInfoKey::{
        PeerData, SecWebsocketHeaders, TraceContextHeaders, Uri, UserAgent, XHeaders,
    };
    let headers: Headers<'_> = &[
        ("X-One", Some("1")),
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
    assert_eq!(all["x"], json!([["x-one", "1"]]));
    assert_eq!(all["trace"], json!([["traceparent", "00-a"]]));
    assert_eq!(
        (&all["peer"], &all["agent"]),
        (&json!("127.0.0.1"), &json!("test"))
    );
    assert_eq!(all["uri"], "http://127.0.0.1/other/project/p");
    assert!(
        all["ws"]
            .as_array()
            .is_some_and(|names| names.contains(&json!("sec-websocket-key")))
    );
}

#[actix_web::test]
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
    // Long-polling has no error handler: the protocol's 403, whatever the token.
    let header = [("X-Phoenix-AuthToken", Some("sekret"))];
    let poll = http(server.addr, "GET", "/other/poll?vsn=2.0.0", &header, b"")
        .await
        .expect("an answer");
    assert_eq!(
        (poll.status, &poll.body[..]),
        (200, &b"{\"status\":403}"[..])
    );
}

#[actix_web::test]
async fn refusals_without_a_reason_and_panics_have_their_own_answers() {
    let server = witness(vec![], false);
    for (what, websocket, longpoll) in [("refuse", 403, 200), ("panic", 500, 500)] {
        let path = format!("/other/project/p?vsn=2.0.0&do={what}");
        assert_eq!(ask(&server, &path, &[]).await.status, websocket, "{what}");
        let path = format!("/other/poll?vsn=2.0.0&do={what}");
        let poll = http(server.addr, "GET", &path, &[], b"")
            .await
            .expect("an answer");
        assert_eq!(poll.status, longpoll, "{what}");
    }
}

#[actix_web::test]
async fn paths_that_are_not_mounted_are_the_applications() {
    let server = witness(vec![], false);
    for path in [
        "/other",
        "/other/websocket",
        "/other/longpoll",
        "/Other/poll",
    ] {
        let answer = http(server.addr, "GET", path, &[], b"")
            .await
            .expect("an answer");
        assert_eq!(answer.status, 404, "{path}");
    }
    let slashes = ask(&server, "//other///project/p/?vsn=2.0.0&do=accept", &[]).await;
    assert_eq!(slashes.status, 101);
}
