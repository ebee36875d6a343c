use super::*;
use actix_web::test::TestRequest;

fn allows(check: &CheckOrigin, origin: &str) -> bool {
    let req = TestRequest::default()
        .insert_header((header::HOST, "chat.example.com:4000"))
        .insert_header((header::ORIGIN, origin))
        .to_http_request();
    check.allows(&Head::from(&req))
}

/// Results observed on Phoenix.
/// Requirements 25, 26, 27, 29.
#[test]
fn a_list_matches_scheme_host_and_port_independently() {
    let list = "//example.com,https://secure.com,//*.wild.com,//port.com:81";
    let check: CheckOrigin = list.parse().expect("a list of origins");
    for origin in [
        "http://example.com",
        "https://example.com:8443",
        "ws://example.com",
        "//example.com",
        "http://user@example.com",
        "https://secure.com:443",
        "http://wild.com",
        "http://a.b.wild.com:99",
        "http://port.com:81",
    ] {
        assert!(allows(&check, origin), "{origin}");
    }
    for origin in [
        "http://sub.example.com",
        "http://secure.com",
        "https://secure.com:444",
        "http://awild.com",
        "http://port.com",
        "http://EXAMPLE.com",
        "null",
        "",
        "file://",
        "example.com",
    ] {
        assert!(!allows(&check, origin), "{origin}");
    }
}

fn asks(check: &CheckOrigin, host: &str, origin: &str) -> bool {
    let req = TestRequest::default()
        .insert_header((header::HOST, host))
        .insert_header((header::ORIGIN, origin))
        .to_http_request();
    check.allows(&Head::from(&req))
}

/// A page of a name that resolves to this server's address sends that name in `Origin` and in `Host`.
/// Requirements 24, 29.
#[test]
fn what_the_host_header_says_counts_for_addresses_alone() {
    for (host, origin, own, loopback) in [
        ("192.168.1.5:4000", "http://192.168.1.5:4000", true, true),
        ("192.168.1.5", "https://192.168.1.5:8443", true, true),
        ("[fe80::1]:4000", "http://[fe80::1]:3000", true, true),
        ("localhost:4000", "http://localhost:3000", true, true),
        ("chat.localhost", "http://chat.localhost", true, true),
        ("127.0.0.1:4000", "http://localhost:3000", false, true),
        ("chat.example.com", "http://[::1]:3000", false, true),
        ("evil.example", "http://evil.example", false, false),
        (
            "evil.example:4000",
            "http://evil.example:4000",
            false,
            false,
        ),
        ("192.168.1.5", "http://evil.example", false, false),
        ("192.168.1.5", "http://192.168.1.6", false, false),
        (
            "localhost.evil.example",
            "http://localhost.evil.example",
            false,
            false,
        ),
        ("127.0.0.1:4000", "null", false, false),
    ] {
        assert_eq!(
            asks(&CheckOrigin::OwnAddress, host, origin),
            own,
            "{host} {origin}"
        );
        let check = CheckOrigin::OwnAddressOrLoopback;
        assert_eq!(asks(&check, host, origin), loopback, "{host} {origin}");
    }
}

/// Requirements 21, 24, 28, 30.
#[test]
fn a_configured_host_the_connection_or_a_callback_decide() {
    let host = CheckOrigin::Host("chat.example.com".parse().expect("a host"));
    assert!(allows(&host, "https://chat.example.com:1") && !allows(&host, "http://localhost"));
    assert!(allows(&CheckOrigin::Off, "null"));
    let own = [
        "http://chat.example.com:4000",
        "https://chat.example.com:4000",
        "http://chat.example.com",
    ];
    assert_eq!(
        own.map(|origin| allows(&CheckOrigin::Conn, origin)),
        [true, false, false]
    );
    let callback = CheckOrigin::Callback(Arc::new(|origin| origin == "null"));
    assert!(allows(&callback, "null") && !allows(&callback, "http://chat.example.com"));
}

/// Browsers send one spelling of a host.
#[test]
fn what_is_configured_may_be_spelled_as_people_do() {
    for (pattern, origin) in [
        ("//Chat.Example.com", "https://chat.example.com"),
        ("//chat.example.com.", "https://chat.example.com"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("//*.Bücher.example", "https://a.xn--bcher-kva.example"),
        ("HTTPS://chat.example.com", "https://chat.example.com"),
        ("https://chat.example.com:443", "https://chat.example.com"),
        ("https://chat.example.com/", "https://chat.example.com"),
        ("//[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080"),
        ("capacitor://localhost", "capacitor://localhost"),
    ] {
        let check: CheckOrigin = pattern.parse().expect(pattern);
        assert!(allows(&check, origin), "{pattern}: {origin}");
    }
    for host in ["Chat.Example.com", "chat.example.com."] {
        let check = CheckOrigin::Host(host.parse().expect("a host"));
        assert!(allows(&check, "https://chat.example.com"), "{host}");
    }
}

#[test]
fn what_could_match_nothing_is_refused() {
    for pattern in [
        "nonsense",
        "",
        "HOST",
        "chat.example.com",
        "//*",
        "//*.",
        "//a.*.example.com",
        "//chat.example.com:x",
        "//chat.example.com:99999",
        "https://chat.example.com/app",
        "//user@example.com",
        "https//example.com",
        "//example.com,",
    ] {
        assert!(pattern.parse::<CheckOrigin>().is_err(), "{pattern}");
    }
    for host in [
        "",
        ".",
        "https://chat.example.com",
        "chat.example.com:8443",
        "chat.example.com/",
        "*.example.com",
    ] {
        assert!(host.parse::<HostName>().is_err(), "{host}");
    }
}
