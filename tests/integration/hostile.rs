//! Two hundred people chat while strangers do everything at once that has ever hurt a server: the people
//! notice little, and nothing of the strangers stays.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::process::Process;
use crate::support::random::Random;
use crate::support::rooms::eventually;
use crate::support::swarm::Member;

const ROOMS: usize = 20;
const MEMBERS: usize = 10;
/// Between two shouts of a room.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two heartbeats of everybody.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// What the server's memory may grow by, in bytes.
const MAX_GROWTH: u64 = 100_000_000;
/// Connections of strangers that send a body byte by byte.
const SLOW: usize = 20;

/// How long the strangers stay. `scripts/faults` asks for an hour, and for its latencies.
fn seconds() -> Option<u64> {
    let asked = std::env::var("SLACKIR_HOSTILE_SECONDS").ok()?;
    Some(asked.parse().expect("a number"))
}

#[tokio::test]
async fn strangers_disturb_nobody_and_leave_nothing_behind() {
    let dir = tempdir().expect("a temporary folder");
    let server = Process::start(&dir, &["--max-connections", "3000"]);
    let asked = seconds();
    let hostile = Duration::from_secs(asked.unwrap_or(3));
    let mut rooms = Vec::new();
    for room in 0..ROOMS {
        let topic = format!("random:honest-{room}");
        rooms.push(join_all((0..MEMBERS).map(|_| Member::join(server.addr, &topic))).await);
    }
    let calm = chat(&mut rooms, 0, (hostile / 5).min(Duration::from_secs(60))).await;
    let (memory, sockets) = (memory_of(&server), sockets_of(&server));

    let strangers = Strangers::come(server.addr);
    let disturbed = chat(&mut rooms, 1 << 32, hostile).await;
    strangers.go().await;

    let grown = memory_of(&server).saturating_sub(memory);
    let (calm, disturbed) = (p99(calm), p99(disturbed));
    println!("p99 {calm:?} alone, {disturbed:?} beside strangers; {grown} bytes more");
    assert!(grown < MAX_GROWTH, "the server has grown by {grown} bytes");
    eventually("every connection is closed", || {
        sockets_of(&server) <= sockets
    })
    .await;
    if asked.is_some() {
        assert!(disturbed <= calm * 3 / 2, "p99 {disturbed:?}, was {calm:?}");
    }
}

/// Each room is shouted into again and again, and all of it arrives. How long each delivery took.
async fn chat(rooms: &mut [Vec<Member>], first: u64, time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let before: Vec<usize> = rooms.iter().map(|room| room[0].live().len()).collect();
    let (mut sent, mut id) = (Vec::new(), first);
    let mut heartbeat = Instant::now();
    while Instant::now() < end {
        if heartbeat.elapsed() > HEARTBEAT {
            heartbeat = Instant::now();
            join_all(rooms.iter_mut().flatten().map(Member::heartbeat)).await;
        }
        for room in &mut *rooms {
            sent.push(Instant::now());
            room[0].shout(id).await;
            id += 1;
        }
        sleep(PAUSE).await;
    }
    let mut latencies = Vec::new();
    let rounds = sent.len() / rooms.len();
    for (room, before) in rooms.iter_mut().zip(before) {
        for member in room {
            member.wait_for(before + rounds).await;
            for shout in &member.live()[before..] {
                let at = usize::try_from(shout.id - first).expect("a shout of this chat");
                latencies.push(shout.at - sent[at]);
            }
        }
    }
    latencies
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// Everybody who means ill.
struct Strangers {
    gone: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Strangers {
    fn come(addr: SocketAddr) -> Self {
        let gone = Arc::new(AtomicBool::new(false));
        let again = |ill: fn(SocketAddr, u64) -> IllDeed| {
            let gone = Arc::clone(&gone);
            tokio::spawn(async move {
                let mut count = 0;
                while !gone.load(Ordering::Relaxed) {
                    // Whoever is refused or cut off tries again.
                    let _ = timeout(Duration::from_secs(5), ill(addr, count)).await;
                    count += 1;
                    sleep(Duration::from_millis(5)).await;
                }
            })
        };
        let mut tasks = vec![
            again(|addr, _| Box::pin(leave_a_body(addr))),
            again(|addr, _| Box::pin(pipeline(addr))),
            again(|addr, _| Box::pin(open_a_session(addr))),
            again(|addr, count| Box::pin(join_and_leave(addr, count))),
            again(|addr, count| Box::pin(name_messages(addr, count))),
            again(|addr, count| Box::pin(break_frames(addr, count))),
        ];
        tasks.extend((0..SLOW).map(|_| again(|addr, _| Box::pin(crawl(addr)))));
        Self { gone, tasks }
    }

    async fn go(self) {
        self.gone.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no stranger panics");
        }
    }
}

/// What one stranger does, up to its end.
type IllDeed = std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

/// A request whose body nobody wants, half closed and dropped.
async fn leave_a_body(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nabc";
    stream.write_all(request.as_bytes()).await?;
    stream.shutdown().await
}

/// Hundreds of requests behind one that waits.
async fn pipeline(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = "GET /socket/longpoll?vsn=2.0.0&token=none HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request.repeat(500).as_bytes()).await?;
    stream.read_exact(&mut [0; 100]).await?;
    Ok(())
}

/// A long-poll session that nobody polls.
async fn open_a_session(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = "GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Topics that nobody has heard of, under refs of any length.
async fn join_and_leave(addr: SocketAddr, count: u64) -> std::io::Result<()> {
    let mut stream = upgraded(addr).await?;
    let long = "7".repeat(200);
    for n in 0..50 {
        for event in ["phx_join", "phx_leave"] {
            let text = format!(r#"["{long}","{n}","random:{count}-{n}","{event}",{{}}]"#);
            stream.write_all(&frame(0x81, text.as_bytes())).await?;
        }
    }
    stream.read_exact(&mut [0; 1_000]).await?;
    Ok(())
}

/// Messages that each have a name of their own.
async fn name_messages(addr: SocketAddr, count: u64) -> std::io::Result<()> {
    let mut stream = upgraded(addr).await?;
    let join = br#"["1","1","random:names","phx_join",{"history":"none"}]"#;
    stream.write_all(&frame(0x81, join)).await?;
    for n in 0..50 {
        let text = format!(r#"["1","{n}","random:names","shout",{{"client_ref":"{count}-{n}"}}]"#);
        stream.write_all(&frame(0x81, text.as_bytes())).await?;
    }
    stream.read_exact(&mut [0; 100]).await?;
    Ok(())
}

/// Whatever, in place of frames; then the beginning of a long message.
async fn break_frames(addr: SocketAddr, count: u64) -> std::io::Result<()> {
    let mut stream = upgraded(addr).await?;
    let mut random = Random::new(count + 1);
    let rubbish: Vec<u8> = (0..300).map(|_| random.below(256) as u8).collect();
    if count.is_multiple_of(2) {
        stream.write_all(&rubbish).await?;
    } else {
        let announced = [0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
        stream.write_all(&announced).await?;
        stream.write_all(&vec![0; 200_000]).await?;
    }
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_millis(50), stream.read_to_end(&mut rest)).await;
    Ok(())
}

/// A body that never ends, byte by byte.
async fn crawl(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let head = "POST /api/topics/a/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(b"x").await?;
        sleep(Duration::from_millis(200)).await;
    }
}

/// A WebSocket of the server's.
async fn upgraded(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    let handshake = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(stream)
}

/// A masked frame of fewer than 65,536 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Resident memory of the server, in bytes.
fn memory_of(server: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.expect("Linux tells it") * 1_024
}

/// Open sockets of the server.
fn sockets_of(server: &Process) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("it runs");
    // A file that is closed meanwhile leads nowhere.
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}
