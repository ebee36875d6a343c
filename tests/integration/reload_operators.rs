//! SIGHUP: what it changes for operators at the dashboard and for the application's backend.

use serde_json::{Value, json};

use crate::support::backend::{Answer, HookBackend};
use crate::support::operator::{Operator, PASSWORD, cookie, get, login, post};
use crate::support::reload::{Running, SECRETS};

/// The dashboard with this password, and more settings.
fn with_password(password: &str, more: &str) -> String {
    format!("dashboard_password = \"{password}\"\n{more}")
}

#[actix_web::test]
async fn the_dashboard_shows_and_heeds_the_new_settings() {
    const LOGIN: &str = "/dashboard/login";
    const BODY: &str = "password=correct+horse+battery";
    let settings = |more: &str| with_password(PASSWORD, more);
    let old = "public_host = \"old.example\"\ntrusted_proxies = \"none\"";
    let mut running = Running::start(&settings(old));
    let addr = running.addr();
    let proxied = [
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("Origin", "https://old.example"),
    ];
    let answer = post(addr, LOGIN, &proxied, BODY).await;
    assert!(!answer.headers["set-cookie"].contains("; Secure"));
    let line = running.logged("dashboard.session.changed");
    assert_eq!(
        line["peer"], "127.0.0.1",
        "nobody is trusted to say another"
    );

    let new = "public_host = \"new.example\"\ntrusted_proxies = \"127.0.0.0/8\"\n\
               history_limit = 7\ncheck_origin = \"off\"\nstatic_dir = \"nowhere\"";
    let line = running.reload(&settings(new), SECRETS[0], "serve.reloaded");
    assert_eq!(line["restart"], "static_dir", "{line}");
    assert_eq!(post(addr, LOGIN, &proxied, BODY).await.status, 403);
    let proxied = [proxied[0], proxied[1], ("Origin", "https://New.example")];
    let answer = post(addr, LOGIN, &proxied, BODY).await;
    assert!(answer.headers["set-cookie"].contains("; Secure"));
    let line = running.logged("dashboard.session.changed");
    assert_eq!(line["peer"], "192.0.2.7", "{line}");

    let mut operator = Operator::come(addr).await;
    let system = operator.ask("system", json!({})).await;
    let shown = |name: &str| {
        let settings = system["settings"].as_array().expect("a list");
        let setting = settings.iter().find(|setting| setting["name"] == name);
        let setting = setting.expect("a setting");
        (setting["value"].clone(), setting["source"].clone())
    };
    assert_eq!(shown("history_limit"), (json!("7"), json!("file")));
    assert_eq!(shown("public_host"), (json!("new.example"), json!("file")));
    // It waits for the restart, as the check says.
    assert_eq!(shown("static_dir"), (Value::Null, json!("default")));
    let check = operator.ask("check", json!({})).await;
    let level = |name: &str| {
        let lines = check["lines"].as_array().expect("a list");
        let line = lines.iter().find(|line| line["name"] == name);
        line.expect("a line")["level"].clone()
    };
    assert_eq!(
        (level("check_origin"), level("static_dir")),
        (json!("warn"), json!("fail"))
    );
    drop(operator);
    running.end();
}

#[actix_web::test]
async fn a_new_password_of_the_dashboard_ends_the_sessions_of_the_old_one() {
    const NEW: &str = "a password of tomorrow";
    let mut running = Running::start(&with_password(PASSWORD, ""));
    let addr = running.addr();
    let old = cookie(&login(addr, PASSWORD).await);
    let mut operator = Operator::with(addr, &old).await;
    let line = running.reload(
        &with_password(PASSWORD, "history_limit = 7"),
        SECRETS[0],
        "serve.reloaded",
    );
    assert_eq!(line["changed"], "history_limit", "{line}");
    operator.ask("bans", json!({})).await;

    let line = running.reload(
        &with_password("short", ""),
        SECRETS[0],
        "serve.reload.failed",
    );
    assert!(
        line["error"]
            .as_str()
            .is_some_and(|error| error.contains("12 characters")),
        "{line}"
    );
    operator.ask("bans", json!({})).await;

    let line = running.reload(&with_password(NEW, ""), SECRETS[0], "serve.reloaded");
    assert_eq!(
        line["changed"], "history_limit, dashboard_password",
        "{line}"
    );
    assert!(!line.to_string().contains(NEW), "{line}");
    assert_eq!(operator.client.closed().await, 1008);
    assert_eq!(get(addr, "/dashboard/", Some(&old)).await.status, 302);
    assert_eq!(login(addr, PASSWORD).await.status, 401);
    let new = cookie(&login(addr, NEW).await);
    assert_eq!(get(addr, "/dashboard/", Some(&new)).await.status, 200);

    let line = running.reload("", SECRETS[0], "serve.reloaded");
    assert_eq!(line["changed"], "dashboard_password", "{line}");
    assert_eq!(get(addr, "/dashboard/", Some(&new)).await.status, 302);
    assert_eq!(login(addr, NEW).await.status, 401);
    running.end();
}

#[actix_web::test]
async fn a_server_without_a_dashboard_needs_a_restart_for_a_password() {
    let public = "host = \"0.0.0.0\"\n";
    let mut running = Running::start(public);
    let line = running.reload(
        &with_password(PASSWORD, public),
        SECRETS[0],
        "serve.reloaded",
    );
    let shown = (&line["changed"], &line["restart"]);
    assert_eq!(shown, (&json!(""), &json!("dashboard_password")));
    running.end();
}

#[actix_web::test]
async fn the_hook_signs_with_the_new_secret_of_its_file() {
    let backend = HookBackend::start(|_| Answer::Json(json!({"ok": true}))).await;
    backend.expect_secret(SECRETS[0]);
    let settings = format!(
        "[hook]\nurl = \"http://{}/slackir?app=1\"\nsecret_file = \"jwt\"\n\
         [[rooms]]\ntopics = \"random:*\"\nhistory = \"none\"\njoin = {{ hook = true }}\n",
        backend.addr
    );
    let mut running = Running::start(&settings);
    let mut ada = running.client().await;
    ada.join("random:1").await;
    let line = running.reload(&settings, SECRETS[1], "serve.reloaded");
    assert_eq!(line["restart"], "", "{line}");
    backend.expect_secret(SECRETS[1]);
    ada.join("random:2").await;
    assert_eq!(backend.bodies("join").len(), 2);
    running.end();
}
