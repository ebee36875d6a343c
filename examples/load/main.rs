//! A load generator for Phoenix Channels servers: it connects clients, and measures latencies and rates.
//!
//! ```text
//! cargo run --release --example load -- join --connections 5000
//! cargo run --release --example load -- fanout --connections 1000 --rate 40 --seconds 10
//! cargo run --release --example load -- echo --connections 50 --inflight 4
//! cargo run --release --example load -- fanout --url ws://localhost:4000/live/websocket \
//!     --topic room:lobby --event new_msg --params '{"token": "..."}'
//! ```
//!
//! A latency counts from the time at which the message was due, so that it includes a stall of the server. With
//! `--pid` of a server on this machine (Linux) it also measures the server's CPU time for each message and its
//! memory for each connection. Each connection is an open file: `ulimit -n` bounds their number, here and at
//! the server. `scripts/bench` compares servers with this program.

mod tls;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use url::Url;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Socket = WebSocketStream<Box<dyn tls::Connection>>;

/// The timeout of a reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most connections that are opened at the same time.
const CONNECTING: usize = 100;

/// Puts a load on a Phoenix Channels server and prints latencies and rates.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Connect and join, and measure the rate
    Join(Target),
    /// A few clients publish, and all members of the topic receive
    Fanout {
        #[command(flatten)]
        target: Target,
        /// Messages a second, of all publishers together
        #[arg(long, default_value_t = 40.0)]
        rate: f64,
        /// Seconds to run
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Bytes of the text of a message
        #[arg(long, default_value_t = 100)]
        payload: usize,
    },
    /// Every client sends an event and waits for the reply
    Echo {
        #[command(flatten)]
        target: Target,
        /// Requests of a connection in flight
        #[arg(long, default_value_t = 1)]
        inflight: usize,
        /// Seconds to run
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

/// The server and its clients.
#[derive(Args, Clone)]
struct Target {
    /// URL of the server's WebSocket; `vsn=2.0.0` is added. The certificate behind wss is not verified
    #[arg(long, default_value = "ws://127.0.0.1:4000/socket/websocket")]
    url: String,
    /// Number of connections
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Topic that all of them join
    #[arg(long, default_value = "random:load")]
    topic: String,
    /// Event that is sent; by default `shout`, and `ping` for echo
    #[arg(long)]
    event: Option<String>,
    /// Params of the join, a JSON object
    #[arg(long, default_value = "{}")]
    params: Value,
    /// Number of topics to spread the connections over; their names are the topic with a number appended
    #[arg(long, default_value_t = 1)]
    topics: usize,
    /// Process id of the server, on this machine
    #[arg(long)]
    pid: Option<u32>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Target {
    /// The topic of a connection.
    fn topic(&self, connection: usize) -> String {
        match self.topics {
            0 | 1 => self.topic.clone(),
            topics => format!("{}-{}", self.topic, connection % topics),
        }
    }
}

/// One client of the topic.
struct Client {
    write: SplitSink<Socket, Message>,
    read: SplitStream<Socket>,
    topic: String,
}

/// Latencies in microseconds, shared out over a few locks.
#[derive(Clone)]
struct Latencies(Arc<[Mutex<Histogram<u64>>]>);

#[actix_rt::main]
async fn main() -> ExitCode {
    match run(Cli::parse().load).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(load: Load) -> Result<(), Error> {
    match load {
        Load::Join(target) => connect(&target).await.map(drop),
        Load::Fanout {
            target,
            rate,
            seconds,
            payload,
        } => fanout(&target, rate, seconds, payload).await,
        Load::Echo {
            target,
            inflight,
            seconds,
        } => echo(&target, inflight, seconds).await,
    }
}

/// Connects and joins all clients.
async fn connect(target: &Target) -> Result<Vec<Client>, Error> {
    let bar = bar(target.connections as u64, "joined");
    let slots = Arc::new(Semaphore::new(CONNECTING));
    let mut report = Report::begin("connect_and_join", target);
    let mut joining = JoinSet::new();
    for at in 0..target.connections {
        let (target, slots) = (target.clone(), slots.clone());
        let latencies = report.latencies.clone();
        joining.spawn(async move {
            let _slot = slots.acquire().await?;
            let began = Instant::now();
            let client = timeout(PATIENCE, Client::join(&target, at)).await??;
            latencies.record(at, began.elapsed());
            Ok::<_, Error>(client)
        });
    }
    let mut clients = Vec::with_capacity(target.connections);
    while let Some(joined) = joining.join_next().await {
        clients.push(joined??);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.end(target.connections as u64);
    Ok(clients)
}

async fn fanout(target: &Target, rate: f64, seconds: u64, payload: usize) -> Result<(), Error> {
    let clients = connect(target).await?;
    let mut report = Report::begin("deliveries", target);
    let received = Arc::new(AtomicU64::new(0));
    let epoch = report.started;
    // The mark before the time of sending. It tells the messages of this process from those in a history.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mark: Arc<str> = format!("load_{}", now.as_micros()).into();
    let (mut writers, mut reading) = (Vec::new(), JoinSet::new());
    for (at, client) in clients.into_iter().enumerate() {
        let (latencies, received) = (report.latencies.clone(), received.clone());
        let mark = mark.clone();
        let Client {
            write,
            mut read,
            topic,
        } = client;
        writers.push((write, topic));
        reading.spawn(async move {
            while let Some(Ok(Message::Text(text))) = read.next().await {
                if let Some(sent) = sent_at(&text, &mark) {
                    latencies.record(at, epoch.elapsed().saturating_sub(sent));
                    received.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let messages = (rate * seconds as f64) as u64;
    let expected = messages * (writers.len() / target.topics.max(1)) as u64;
    let bar = bar(expected, "received");
    let event = target.event.as_deref().unwrap_or("shout");
    let text = "x".repeat(payload);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0..messages {
        let due = ticks.tick().await.into_std();
        let sent = due.saturating_duration_since(epoch).as_micros() as u64;
        let publisher = n as usize % writers.len();
        let (write, topic) = &mut writers[publisher];
        let body = json!({"name": "load", "message": text, &*mark: sent});
        let frame = json!(["1", null, topic, event, body]).to_string();
        write.send(Message::text(frame)).await?;
        bar.set_position(received.load(Ordering::Relaxed));
    }
    let end = Instant::now() + PATIENCE;
    while received.load(Ordering::Relaxed) < expected && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
        bar.set_position(received.load(Ordering::Relaxed));
    }
    bar.finish_and_clear();
    let received = received.load(Ordering::Relaxed);
    report.lost = Some(expected.saturating_sub(received));
    report.end(received);
    Ok(())
}

async fn echo(target: &Target, inflight: usize, seconds: u64) -> Result<(), Error> {
    let clients = connect(target).await?;
    let mut report = Report::begin("replies", target);
    let end = report.started + Duration::from_secs(seconds);
    let bar = bar(seconds, "seconds");
    let event = target.event.as_deref().unwrap_or("ping");
    let mut asking = JoinSet::new();
    for (at, client) in clients.into_iter().enumerate() {
        let (event, latencies) = (event.to_owned(), report.latencies.clone());
        asking.spawn(async move { client.ask(&event, inflight, end, &latencies, at).await });
    }
    let mut replies = 0;
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            asked = asking.join_next() => match asked {
                Some(asked) => replies += asked??,
                None => break,
            },
            _ = ticks.tick() => bar.inc(1),
        }
    }
    bar.finish_and_clear();
    report.end(replies);
    Ok(())
}

/// Opens a WebSocket, by TLS if the URL begins with wss.
async fn open(url: &str) -> Result<Socket, Error> {
    let stream = tls::connect(&Url::parse(url)?).await?;
    Ok(client_async(url, stream).await?.0)
}

impl Client {
    async fn join(target: &Target, at: usize) -> Result<Self, Error> {
        let topic = target.topic(at);
        let separator = if target.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}vsn=2.0.0", target.url);
        let (mut write, mut read) = open(&url).await?.split();
        let join = json!(["1", "1", topic, "phx_join", target.params]);
        write.send(Message::text(join.to_string())).await?;
        while let Some(message) = read.next().await {
            let Message::Text(text) = message? else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text)?;
            if frame[3] == "phx_reply" && frame[1] == "1" {
                return match frame[4]["status"].as_str() {
                    Some("ok") => Ok(Self { write, read, topic }),
                    _ => Err(format!("the server refuses the join: {}", frame[4]).into()),
                };
            }
        }
        Err("the server has closed the connection before it answered the join".into())
    }

    /// Sends, and sends again at each reply, until `end`. Returns the number of replies.
    async fn ask(
        mut self,
        event: &str,
        inflight: usize,
        end: Instant,
        latencies: &Latencies,
        at: usize,
    ) -> Result<u64, Error> {
        let mut sent = HashMap::new();
        let (mut next, mut replies) = (2_u64, 0);
        loop {
            while sent.len() < inflight && Instant::now() < end {
                let frame = json!(["1", next.to_string(), self.topic, event, {}]);
                sent.insert(next, Instant::now());
                self.write.send(Message::text(frame.to_string())).await?;
                next += 1;
            }
            if sent.is_empty() {
                return Ok(replies);
            }
            let message = timeout(PATIENCE, self.read.next()).await?;
            let Some(Message::Text(text)) = message.transpose()? else {
                return Err("the server has closed a connection".into());
            };
            type Reply = (Value, Value, Value, String, IgnoredAny);
            let (_, reference, _, event, _): Reply = serde_json::from_str(&text)?;
            let reference = reference.as_str().and_then(|text| text.parse().ok());
            if event == "phx_reply"
                && let Some(began) = reference.and_then(|reference: u64| sent.remove(&reference))
            {
                latencies.record(at, began.elapsed());
                replies += 1;
            }
        }
    }
}

/// The time at which a message was due, since the beginning.
fn sent_at(text: &str, mark: &str) -> Option<Duration> {
    let (_, rest) = text.split_once(mark)?;
    let rest = rest.strip_prefix("\":")?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok().map(Duration::from_micros)
}

impl Latencies {
    fn new() -> Self {
        Self((0..16).map(|_| Mutex::new(histogram())).collect())
    }

    fn record(&self, client: usize, latency: Duration) {
        let histogram = &self.0[client % self.0.len()];
        let mut histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(latency.as_micros() as u64);
    }

    fn all(&self) -> Histogram<u64> {
        let mut all = histogram();
        for histogram in self.0.iter() {
            let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
            all.add(&*histogram).expect("they are of one kind");
        }
        all
    }
}

/// From a microsecond to two minutes, with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).expect("sound bounds")
}

/// A measurement, from its beginning to its end.
struct Report {
    what: &'static str,
    json: bool,
    pid: Option<u32>,
    started: Instant,
    /// The usage of the server at the beginning.
    before: Option<Usage>,
    latencies: Latencies,
    lost: Option<u64>,
}

/// The CPU time and the memory that a process has used.
#[derive(Clone, Copy)]
struct Usage {
    cpu: Duration,
    rss: u64,
}

impl Report {
    fn begin(what: &'static str, target: &Target) -> Self {
        Self {
            what,
            json: target.json,
            pid: target.pid,
            before: target.pid.and_then(Usage::of),
            latencies: Latencies::new(),
            lost: None,
            started: Instant::now(),
        }
    }

    fn end(&mut self, count: u64) {
        let took = self.started.elapsed().as_secs_f64();
        let all = self.latencies.all();
        let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1_000.0;
        let mut line = json!({
            "what": self.what,
            "count": count,
            "seconds": took,
            "per_second": count as f64 / took,
            "p50_ms": ms(0.5),
            "p90_ms": ms(0.9),
            "p99_ms": ms(0.99),
            "max_ms": ms(1.0),
        });
        if let Some(lost) = self.lost {
            line["lost"] = lost.into();
        }
        if let (Some(before), Some(after)) = (self.before, self.pid.and_then(Usage::of)) {
            let cpu = (after.cpu - before.cpu).as_micros() as f64;
            line["server_cpu_us_each"] = (cpu / count.max(1) as f64).into();
            let rss = after.rss.saturating_sub(before.rss);
            line["server_bytes_each"] = (rss / count.max(1)).into();
        }
        if self.json {
            return println!("{line}");
        }
        let Value::Object(line) = line else { return };
        let numbers = line.iter().filter(|(name, _)| *name != "what");
        let parts = numbers.map(|(name, value)| match value.as_f64() {
            Some(number) if value.is_f64() => format!("{name} {number:.2}"),
            _ => format!("{name} {value}"),
        });
        println!("{}: {}", self.what, parts.collect::<Vec<_>>().join("  "));
    }
}

impl Usage {
    /// `None` if there is no such process, or on a system other than Linux.
    fn of(pid: u32) -> Option<Self> {
        const TICKS_PER_SECOND: u64 = 100;
        const PAGE: u64 = 4_096;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in brackets, which may contain anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let user: u64 = fields.nth(11)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let pages: u64 = fields.nth(8)?.parse().ok()?;
        Some(Self {
            cpu: Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND),
            rss: pages * PAGE,
        })
    }
}

/// The progress on a terminal.
fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}");
    ProgressBar::new(length)
        .with_style(style.expect("a sound template"))
        .with_message(what)
}
