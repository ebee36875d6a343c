//! The recorded scenarios, played against the conformance application.

use crate::support::conformance_app;
use crate::support::scenario;
use crate::support::server::TestServer;

async fn check(file: &str, count: usize) {
    let server = TestServer::start(conformance_app::endpoint);
    scenario::check(server.addr, file, |_| true)
        .await
        .expect_passed(count);
}

#[actix_web::test]
async fn handshake() {
    check("handshake.json", 13).await;
}

#[actix_web::test]
async fn lifecycle() {
    check("lifecycle.json", 28).await;
}

#[actix_web::test]
async fn vsn1() {
    check("vsn1.json", 7).await;
}

#[actix_web::test]
async fn bad_input() {
    check("bad_input.json", 12).await;
}

#[actix_web::test]
async fn channel_api() {
    check("channel_api.json", 16).await;
}

#[actix_web::test]
async fn binary() {
    check("binary.json", 4).await;
}

#[actix_web::test]
async fn longpoll() {
    check("longpoll.json", 9).await;
}

#[actix_web::test]
async fn presence() {
    check("presence.json", 6).await;
}
