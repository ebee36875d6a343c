//! One topic, two workers, a thousand clients: everybody sees the same messages in one order, and
//! the table has them in that order too.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::database::{Database, on_each_database};
use crate::support::swarm::Member;

const TOPIC: &str = "random:crowd";
const MEMBERS: usize = 1_000;
const PUBLISHERS: usize = 10;
/// Each publisher's pace and number of shouts: 40 a second in all, for 10 seconds.
const PACE: Duration = Duration::from_millis(250);
const SHOUTS_EACH: u64 = 40;
const SHOUTS: usize = PUBLISHERS * SHOUTS_EACH as usize;

on_each_database! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    a_thousand_members_and_the_table_agree_on_one_sequence,
}

/// Shouts at a steady pace; ids tell the publisher and its count.
async fn publish(mut member: Member, publisher: u64) -> Member {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0..SHOUTS_EACH {
        pace.tick().await;
        member.shout(publisher * 1_000 + count).await;
    }
    member
}

/// Joins while the shouting goes on, one client after the other.
async fn join_in_the_middle(addr: SocketAddr) -> Vec<Member> {
    let mut late = Vec::new();
    let mut pace = interval(Duration::from_millis(200));
    for _ in 0..40 {
        pace.tick().await;
        late.push(Member::join(addr, TOPIC).await);
    }
    late
}

fn table(database: &Database) -> Vec<u64> {
    let payloads = database.payloads(TOPIC);
    payloads
        .iter()
        .map(|payload| payload["n"].as_u64().expect("an id"))
        .collect()
}

/// Requirement 137.
async fn a_thousand_members_and_the_table_agree_on_one_sequence(database: Database) {
    let server = database.serve(&[]);
    let addr = server.addr;
    let mut members = Vec::new();
    for _ in 0..MEMBERS / 50 {
        members.extend(join_all((0..50).map(|_| Member::join(addr, TOPIC))).await);
    }
    let publishers = members
        .drain(..PUBLISHERS)
        .zip(1..)
        .map(|(member, id)| publish(member, id));
    let (publishers, late) = tokio::join!(join_all(publishers), join_in_the_middle(addr));
    members.extend(publishers);
    for member in &mut members {
        member.wait_for(SHOUTS).await;
    }
    let sequence: Vec<u64> = members[0].live().iter().map(|shout| shout.id).collect();
    let mut sorted = sequence.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(
        sorted.len(),
        SHOUTS,
        "nothing is lost and nothing is doubled"
    );
    for member in &members {
        assert_eq!(
            member.everything(),
            sequence,
            "every member sees the same order"
        );
    }
    for mut member in late {
        let seen = member.everything();
        let start = sequence.iter().position(|id| Some(id) == seen.first());
        let rest = &sequence[start.expect("a late member begins with a known message")..];
        member
            .wait_for(rest.len().saturating_sub(seen.len() - member.live().len()))
            .await;
        assert_eq!(
            member.everything(),
            rest,
            "history and live messages join without a seam"
        );
    }
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(
        table(&database),
        sequence,
        "the table is in the order that everybody saw"
    );
}
