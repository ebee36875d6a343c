//! The operators' dashboard: who may use it. The page itself is tested in tests/browser.

use std::net::SocketAddr;
use std::path::Path;

use crate::support::operator::{
    Operator, PASSWORD, SOCKET, cookie, get, login, post, start, with_password,
};
use crate::support::process::{Process, run};
use crate::support::wire::{WireClient, http};

#[actix_web::test]
async fn the_page_needs_the_password_and_a_wrong_one_is_limited() {
    let (_dir, server) = with_password();
    let addr = server.addr;
    let page = get(addr, "/dashboard/", None).await;
    assert_eq!(page.status, 302);
    assert_eq!(page.headers["location"], "/dashboard/login");
    assert_eq!(
        get(addr, "/dashboard", None).await.headers["location"],
        "/dashboard/"
    );
    let form = get(addr, "/dashboard/login", None).await;
    assert_eq!(form.status, 200);
    assert!(form.headers["content-security-policy"].starts_with("default-src 'self'"));
    assert!(String::from_utf8_lossy(&form.body).contains("data-wrong=\"false\""));

    let wrong = login(addr, "wrong").await;
    assert_eq!(wrong.status, 401);
    assert!(String::from_utf8_lossy(&wrong.body).contains("data-wrong=\"true\""));
    let right = login(addr, PASSWORD).await;
    assert_eq!(
        (right.status, &*right.headers["location"]),
        (303, "/dashboard/")
    );
    let cookie = cookie(&right);
    let page = get(addr, "/dashboard/", Some(&cookie)).await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-security-policy"].starts_with("default-src 'self'"));
    let login_page = get(addr, "/dashboard/login", Some(&cookie)).await;
    assert_eq!(login_page.headers["location"], "/dashboard/");

    // Two of five tries are used up.
    for _ in 0..3 {
        assert_eq!(login(addr, "wrong").await.status, 401);
    }
    let limited = login(addr, PASSWORD).await;
    assert_eq!(limited.status, 429);
    assert!(limited.headers.contains_key("retry-after"));
    assert!(String::from_utf8_lossy(&limited.body).contains("data-wrong=\"limited\""));
    let metrics = get(addr, "/metrics", None).await;
    let counted = "slackir_limited_total{limit=\"login\"} 1";
    assert!(String::from_utf8_lossy(&metrics.body).contains(counted));
    let elsewhere = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
    ];
    let body = "password=correct+horse+battery";
    let elsewhere = post(addr, "/dashboard/login", &elsewhere, body).await;
    assert_eq!(
        elsewhere.status, 303,
        "another client of the proxy has its own tries"
    );
    assert!(elsewhere.headers["set-cookie"].contains("; Secure"));
}

#[actix_web::test]
async fn files_are_served_to_everybody_and_asked_for_again_by_their_tag() {
    let (_dir, server) = with_password();
    for (file, kind) in [
        ("dashboard.js", "text/javascript; charset=utf-8"),
        ("dashboard.css", "text/css; charset=utf-8"),
        ("dialogs.css", "text/css; charset=utf-8"),
        ("views.css", "text/css; charset=utf-8"),
        ("favicon.svg", "image/svg+xml"),
    ] {
        let target = format!("/dashboard/{file}");
        let answer = get(server.addr, &target, None).await;
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (200, kind),
            "{file}"
        );
        assert_eq!(answer.headers["cache-control"], "no-cache");
        let tag = Some(&*answer.headers["etag"]);
        let again = http(server.addr, "GET", &target, &[("If-None-Match", tag)], b"").await;
        assert_eq!(again.expect("an answer").status, 304);
        let head = http(server.addr, "HEAD", &target, &[], b"")
            .await
            .expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    assert_eq!(
        get(server.addr, "/dashboard/nothing.js", None).await.status,
        404
    );
    let posted = post(server.addr, "/dashboard/dashboard.js", &[], "").await;
    assert_eq!(posted.status, 405);
}

#[actix_web::test]
async fn a_socket_and_a_form_need_the_cookie_and_a_page_of_the_server() {
    let (_dir, server) = with_password();
    let addr = server.addr;
    let cookie = cookie(&login(addr, PASSWORD).await);
    let own = format!("http://{addr}");
    let foreign = Some("https://evil.example");
    for (cookie, origin, lets_in) in [
        (None, None, false),
        (None, Some(&*own), false),
        (Some("slackir_dashboard=0.9999999999.AAAA"), None, false),
        (Some(&*cookie), foreign, false),
        (Some(&*cookie), Some("null"), false),
        (Some(&*cookie), Some(&*own), true),
    ] {
        let headers = [("Cookie", cookie), ("Origin", origin)];
        let opened = WireClient::open(addr, SOCKET, &headers)
            .await
            .expect("an answer");
        match opened {
            Ok(_) => assert!(lets_in, "{cookie:?} {origin:?}"),
            Err(answer) => assert_eq!((lets_in, answer.status), (false, 403), "{origin:?}"),
        }
    }
    for target in ["/dashboard/login", "/dashboard/logout"] {
        let headers = [("Cookie", &*cookie), ("Origin", "https://evil.example")];
        let answer = post(addr, target, &headers, "password=correct+horse+battery").await;
        assert_eq!(answer.status, 403, "{target}");
    }
    let export = get(addr, "/dashboard/export?topic=room:1", None).await;
    assert_eq!(export.status, 401);
}

#[actix_web::test]
async fn signing_out_ends_the_session_and_its_sockets() {
    let (_dir, server) = with_password();
    let cookie = cookie(&login(server.addr, PASSWORD).await);
    let mut operator = Operator::with(server.addr, &cookie).await;
    let left = post(server.addr, "/dashboard/logout", &[("Cookie", &cookie)], "").await;
    assert_eq!(
        (left.status, &*left.headers["location"]),
        (303, "/dashboard/login")
    );
    assert!(left.headers["set-cookie"].contains("Max-Age=0"));
    assert_eq!(operator.client.closed().await, 1008);
    let page = get(server.addr, "/dashboard/", Some(&cookie)).await;
    assert_eq!(page.status, 302);
    let again = WireClient::open(server.addr, SOCKET, &[("Cookie", Some(&cookie))]).await;
    assert_eq!(again.expect("an answer").expect_err("refused").status, 403);
}

#[actix_web::test]
async fn a_loopback_server_prints_a_link_that_works_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut server = Process::start(&dir, &[]);
    let line = server.next_line();
    let (_, target) = line.split_once(&server.addr.to_string()).expect("a URL");
    assert!(
        line.starts_with("dashboard http://") && target.starts_with("/dashboard?token="),
        "{line}"
    );
    let head = http(server.addr, "HEAD", target, &[], b"")
        .await
        .expect("an answer");
    assert_eq!(
        head.headers["location"], "/dashboard/",
        "only a GET uses it up"
    );
    let first = get(server.addr, target, None).await;
    assert_eq!(
        (first.status, &*first.headers["location"]),
        (303, "/dashboard/")
    );
    let page = get(server.addr, "/dashboard/", Some(&cookie(&first))).await;
    assert_eq!(page.status, 200);
    let second = get(server.addr, target, None).await;
    assert_eq!(second.status, 401);
    assert!(!second.headers.contains_key("set-cookie"));
    assert_eq!(
        login(server.addr, "").await.status,
        401,
        "there is no password"
    );
}

#[actix_web::test]
async fn without_a_password_other_addresses_have_no_dashboard() {
    let (_dir, server) = start(&["--host", "0.0.0.0"]);
    let addr = SocketAddr::from(([127, 0, 0, 1], server.addr.port()));
    for target in [
        "/dashboard",
        "/dashboard/",
        "/dashboard/login",
        "/dashboard/dashboard.js",
    ] {
        assert_eq!(get(addr, target, None).await.status, 404, "{target}");
    }
    let opened = WireClient::open(addr, SOCKET, &[])
        .await
        .expect("an answer");
    assert_eq!(opened.expect_err("refused").status, 404);
}

#[actix_web::test]
async fn it_moves_to_the_listener_of_the_operators() {
    let dir = tempfile::tempdir().expect("a folder");
    // The kernel chooses the port; the link says which.
    let mut server = Process::start(&dir, &["--admin-listen", "127.0.0.1:0"]);
    let line = server.next_line();
    let (addr, _) = line
        .strip_prefix("dashboard http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URL");
    let admin: SocketAddr = addr.parse().expect("an address");
    assert_ne!(admin, server.addr);
    assert_eq!(get(admin, "/dashboard/login", None).await.status, 200);
    assert_eq!(get(server.addr, "/dashboard/login", None).await.status, 404);
    let target = line.split_once(addr).expect("the path").1;
    let cookie = cookie(&get(admin, target, None).await);
    let mut operator = Operator::with(admin, &cookie).await;
    operator.pushed("snapshot").await;
}

#[test]
fn a_password_that_could_be_guessed_is_refused() {
    let output = run(
        &["serve", "--port", "0", "--dashboard-password", "hunter2"],
        Path::new("."),
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("at least 12 characters") && !error.contains("hunter2"),
        "{error}"
    );
}
