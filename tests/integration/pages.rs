//! What the server answers to browsers, monitors and balancers: the page, a folder in its place,
//! methods and origins.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::api::TOKEN;
use crate::support::process::{self, Process};
use crate::support::wire::{self, DEADLINE, HttpAnswer, WireClient};

async fn ask(addr: SocketAddr, method: &str, path: &str) -> HttpAnswer {
    ask_with(addr, method, path, &[]).await
}

async fn ask_with(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, Option<&str>)],
) -> HttpAnswer {
    let answer = wire::http(addr, method, path, headers, b"").await;
    answer.expect("an answer")
}

/// All bytes up to the end of the connection.
async fn whole_answer_to_head(addr: SocketAddr, path: &str, authorization: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    let request = format!(
        "HEAD {path} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: {authorization}\r\n\
         Connection: close\r\n\r\n"
    );
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("open");
    let mut answer = String::new();
    let read = timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
    read.expect("in time").expect("text");
    answer
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    std::fs::write(path, text).expect("writable");
}

#[actix_web::test]
async fn head_is_answered_as_get_and_options_tells_the_methods() {
    let dir = tempdir().expect("a temporary folder");
    write(dir.path(), "frontend/index.html", "<h1>mine</h1>");
    let page = Process::start(&dir, &["--api-token", TOKEN]);
    let folder = Process::start(&dir, &["--persist", "off", "--static-dir", "frontend"]);
    let authorization = format!("Bearer {TOKEN}");
    let authorized = [("Authorization", Some(&*authorization))];
    for (server, path, methods) in [
        (&page, "/", "GET, HEAD, OPTIONS"),
        (&page, "/assets/app.js", "GET, HEAD, OPTIONS"),
        (&page, "/healthz", "GET, HEAD, OPTIONS"),
        (&page, "/readyz", "GET, HEAD, OPTIONS"),
        (&page, "/metrics", "GET, HEAD, OPTIONS"),
        (&page, "/api/openapi.json", "GET, HEAD, OPTIONS"),
        (
            &page,
            "/api/topics/random:a/messages",
            "GET, HEAD, POST, DELETE, OPTIONS",
        ),
        (&folder, "/", "GET, HEAD, OPTIONS"),
        (&folder, "/nothing", "GET, HEAD, OPTIONS"),
    ] {
        let get = ask_with(server.addr, "GET", path, &authorized).await;
        let head = whole_answer_to_head(server.addr, path, &authorization).await;
        let status = format!("HTTP/1.1 {} ", get.status);
        assert!(head.starts_with(&status), "{path}: {head}");
        assert!(head.ends_with("\r\n\r\n"), "{path} has a body: {head}");
        if let Some(kind) = get.headers.get("content-type") {
            assert!(head.contains(kind.as_str()), "{path}: {head}");
        }
        let options = ask(server.addr, "OPTIONS", path).await;
        assert_eq!(
            (options.status, options.headers["allow"].as_str()),
            (204, methods),
            "{path}"
        );
    }
    let answer = ask(page.addr, "POST", "/").await;
    let allow = answer.headers["allow"].as_str();
    assert_eq!((answer.status, allow), (405, "GET, HEAD, OPTIONS"));
}

#[actix_web::test]
async fn the_page_may_load_what_it_uses_and_nothing_else() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &["--persist", "off"]);
    let page = ask(server.addr, "GET", "/").await;
    let policy = &page.headers["content-security-policy"];
    for part in [
        "default-src 'none'",
        "style-src 'self'",
        "connect-src 'self'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    let local = String::from_utf8_lossy(&page.body).contains("\"/assets/phoenix.mjs\"");
    let script = ask(server.addr, "GET", "/assets/phoenix.mjs").await;
    assert_eq!(script.status, if local { 200 } else { 404 });
    assert_eq!(policy.contains("https:"), !local, "{policy}");
    for path in ["/", "/assets/app.js", "/assets/app.css"] {
        let headers = ask(server.addr, "GET", path).await.headers;
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "same-origin", "{path}");
    }
}

#[actix_web::test]
async fn a_folder_gives_its_own_files_and_no_others() {
    let dir = tempdir().expect("a temporary folder");
    for (path, text) in [
        ("f/index.html", "home"),
        ("f/help/index.html", "help"),
        ("f/empty/.keep", ""),
        ("f/.well-known/assetlinks.json", "[]"),
        ("f/.env", "SECRET=1"),
        ("outside/secret.txt", "SECRET=2"),
        ("outside/index.html", "SECRET=3"),
    ] {
        write(dir.path(), path, text);
    }
    let inside = dir.path().join("f");
    symlink("index.html", inside.join("home.html")).expect("a link");
    symlink("../outside/secret.txt", inside.join("secret.txt")).expect("a link");
    symlink("../outside", inside.join("outside")).expect("a link");
    std::fs::create_dir(inside.join("leak")).expect("writable");
    symlink("../../outside/index.html", inside.join("leak/index.html")).expect("a link");
    // A folder of which a deployment makes another one in a moment.
    symlink("f", dir.path().join("current")).expect("a link");
    let server = Process::start(&dir, &["--persist", "off", "--static-dir", "current"]);
    for (path, status, body) in [
        ("/", 200, "home"),
        ("/home.html", 200, "home"),
        ("/help/", 200, "help"),
        ("/help/index.html", 200, "help"),
        ("/help", 308, ""),
        ("/.well-known/assetlinks.json", 200, "[]"),
        ("/.env", 404, ""),
        ("/%2eenv", 404, ""),
        ("/empty/", 404, ""),
        ("/index.html/", 404, ""),
        ("/secret.txt", 404, ""),
        ("/outside/secret.txt", 404, ""),
        ("/outside/", 404, ""),
        ("/leak/", 404, ""),
        ("/../outside/secret.txt", 404, ""),
        ("/./index.html", 404, ""),
        ("//evil.example/..", 404, ""),
    ] {
        let answer = ask(server.addr, "GET", path).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, &*text), (status, body), "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    let folder = ask(server.addr, "GET", "/help?a=1").await;
    assert_eq!(folder.headers["location"], "/help/?a=1");
    let etag = ask(server.addr, "GET", "/").await.headers["etag"].clone();
    let known = [("If-None-Match", Some(&*etag))];
    assert_eq!(ask_with(server.addr, "GET", "/", &known).await.status, 304);
}

/// Whether a page of this origin that asks for this host may open a socket.
async fn is_let_in(server: &Process, host: &str, origin: &str) -> bool {
    let headers = [("Host", Some(host)), ("Origin", Some(origin))];
    let path = "/socket/websocket?vsn=2.0.0";
    let opened = WireClient::open(server.addr, path, &headers).await;
    opened.expect("an answer").is_ok()
}

/// Anybody can make a name that leads to this server.
#[actix_web::test]
async fn pages_of_a_name_that_nobody_has_configured_open_no_socket() {
    let dir = tempdir().expect("a temporary folder");
    let loopback = Process::start(&dir, &["--persist", "off"]);
    let everywhere = Process::start(&dir, &["--persist", "off", "--host", "0.0.0.0"]);
    let args = ["--persist", "off", "--public-host", "Chat.Example.com"];
    let named = Process::start(&dir, &args);
    for (host, origin, right) in [
        ("evil.example", "http://evil.example", [false, false, false]),
        ("127.0.0.1", "http://127.0.0.1:3000", [true, true, false]),
        ("127.0.0.1", "http://localhost:3000", [true, false, false]),
        ("10.0.0.7", "http://10.0.0.7", [true, true, false]),
        (
            "chat.example.com",
            "https://chat.example.com",
            [false, false, true],
        ),
        (
            "127.0.0.1",
            "https://chat.example.com",
            [false, false, true],
        ),
    ] {
        for (server, right) in [&loopback, &everywhere, &named].into_iter().zip(right) {
            assert_eq!(
                is_let_in(server, host, origin).await,
                right,
                "{host} {origin}"
            );
        }
    }
    for wrong in ["https://chat.example.com", "chat.example.com:8443"] {
        let output = process::run(&["--persist", "off", "--public-host", wrong], dir.path());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(stderr.contains("without scheme, port and path"), "{stderr}");
    }
}
