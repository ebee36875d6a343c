use super::*;

fn client(address: &str) -> ClientAddress {
    let peer = address.parse().expect("an address and a port");
    ClientAddress::of_peer(peer, &TrustedProxies::default())
}

fn admission(per_address: AddressLimit) -> Admission {
    Admission::new(AdmissionOptions {
        max_connections: 5,
        per_address,
        max_files: 100 + FILES_FOR_HTTP,
        ..AdmissionOptions::default()
    })
}

fn socket(admission: &Admission, address: &str) -> Result<Admitted, Full> {
    admission.socket(Some(client(address)), || false)
}

fn addresses(admission: &Admission) -> usize {
    let shards = admission.0.addresses.iter();
    shards.map(|shard| shard.lock().expect("sound").len()).sum()
}

#[test]
fn an_address_has_so_many_sockets_and_as_many_streams() {
    let admission = admission(AddressLimit::new(2));
    let ann = "192.0.2.7:1";
    let sockets = [socket(&admission, ann), socket(&admission, "192.0.2.7:2")];
    assert_eq!(socket(&admission, "192.0.2.7:3").err(), Some(Full::Address));
    let streams = [(); 2].map(|()| admission.stream(client(ann)));
    assert!(streams.iter().all(Result::is_ok));
    assert!(admission.stream(client(ann)).is_err());
    assert!(socket(&admission, "192.0.2.8:1").is_ok());
    drop(sockets);
    assert!(socket(&admission, ann).is_ok());
    drop(streams);
    assert!(admission.stream(client(ann)).is_ok());
    assert_eq!(addresses(&admission), 0, "nothing is kept of who has gone");
}

#[test]
fn a_network_of_one_client_is_one_address() {
    let admission = admission(AddressLimit::new(1));
    let _first = socket(&admission, "[2001:db8:0:1::1]:1").expect("room");
    let second = socket(&admission, "[2001:db8:0:1:ffff::2]:1");
    assert_eq!(second.err(), Some(Full::Address));
    assert!(socket(&admission, "[2001:db8:0:2::1]:1").is_ok());
}

#[test]
fn a_limit_that_nobody_set_spares_proxies() {
    let spares = admission(AddressLimit {
        max: 1,
        ..AddressLimit::default()
    });
    let all = [(); 3].map(|()| socket(&spares, "127.0.0.1:1"));
    assert!(all.iter().all(Result::is_ok));
    let holds = admission(AddressLimit::new(1));
    let _first = socket(&holds, "127.0.0.1:1").expect("room");
    assert_eq!(socket(&holds, "127.0.0.1:2").err(), Some(Full::Address));
    let streams = [(); 3].map(|()| holds.stream(client("127.0.0.1:1")));
    assert!(streams.iter().all(Result::is_ok), "they may be anybody's");
}

#[test]
fn without_a_limit_no_address_is_counted() {
    let admission = admission(AddressLimit::new(0));
    let all = [(); 5].map(|()| socket(&admission, "192.0.2.7:1"));
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(addresses(&admission), 0);
}

#[test]
fn a_full_server_takes_one_more_where_another_can_be_spared() {
    let admission = admission(AddressLimit::default());
    let all = [(); 5].map(|()| socket(&admission, "127.0.0.1:1"));
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(socket(&admission, "127.0.0.1:1").err(), Some(Full::Server));
    let spared = admission.socket(None, || true);
    assert!(spared.is_ok());
    drop((all, spared));
    assert!(socket(&admission, "127.0.0.1:1").is_ok());
}

#[test]
fn files_are_kept_back_for_http_and_for_everything_else() {
    let admission = admission(AddressLimit::default());
    let stream = || admission.stream(client("127.0.0.1:1")).ok();
    let mut streams: Vec<_> = (0..100).map_while(|_| stream()).collect();
    assert_eq!(streams.len(), 100);
    assert!(socket(&admission, "127.0.0.1:1").is_ok());
    streams.push(stream().expect("a file for HTTP"));
    assert_eq!(socket(&admission, "127.0.0.1:1").err(), Some(Full::Server));
    streams.extend(std::iter::from_fn(stream));
    assert_eq!(streams.len(), 100 + FILES_FOR_HTTP);
    drop(streams);
    assert!(stream().is_some());
}
