//! [`Report`]: the result of a load.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::usage::ServerUse;

/// The most different reasons that are told apart.
const MAX_REASONS: usize = 20;

/// What has happened.
pub(super) struct Report {
    /// Clients that the load was to have.
    pub(super) clients: usize,
    pub(super) topics: usize,
    pub(super) connected: u64,
    pub(super) joined: u64,
    /// From the first connection to the last join.
    pub(super) joining: Duration,
    /// Clients that have not joined.
    pub(super) refused: Reasons,
    /// Clients whose connection or channel the server has ended.
    pub(super) closed: Reasons,
    pub(super) messages: u64,
    /// Messages that the server has refused.
    pub(super) refused_messages: Reasons,
    /// Messages that were not sent, because the server did not read.
    pub(super) held_back: u64,
    /// How long messages were published, or the clients stayed.
    pub(super) running: Duration,
    pub(super) deliveries: u64,
    /// Whether the clients wait for replies, and not for deliveries.
    pub(super) is_echo: bool,
    pub(super) replies: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    /// Times of deliveries or replies, in nanoseconds; in a storm only those of requests that were sent meanwhile.
    pub(super) times: Histogram<u64>,
    /// What came of a storm.
    pub(super) storm: Option<Storm>,
    /// By how much a message was sent too late.
    pub(super) behind: Duration,
    /// The CPU time of this process.
    pub(super) cpu: Duration,
    /// What the server has used, if the load looks at its process.
    pub(super) server: Option<ServerUse>,
}

/// What came of a storm.
pub(super) struct Storm {
    /// Times of the replies to the clients that stayed, before the storm.
    pub(super) quiet: Histogram<u64>,
    /// Clients that were to come back, and those that have.
    pub(super) away: u64,
    pub(super) back: u64,
    /// Their channels that have missed nothing.
    pub(super) resumed: u64,
    /// From the loss of all connections to the last join.
    pub(super) took: Duration,
}

/// How often something has happened, by its reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    pub(super) fn count(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        let is_known = self.0.len() < MAX_REASONS || self.0.contains_key(&reason);
        let reason = if is_known { reason } else { "other".to_owned() };
        *self.0.entry(reason).or_default() += 1;
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The reason that has come most often.
    pub(super) fn first(&self) -> Option<&str> {
        let first = self.0.iter().max_by_key(|(_, times)| **times);
        first.map(|(reason, _)| &**reason)
    }
}

impl Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total())?;
        for (at, (reason, times)) in self.0.iter().enumerate() {
            let separator = if at == 0 { ':' } else { ',' };
            write!(f, "{separator} {times} × {reason}")?;
        }
        Ok(())
    }
}

/// No times yet, of up to an hour.
pub(super) fn times() -> Histogram<u64> {
    let hour = Duration::from_secs(3_600).as_nanos() as u64;
    Histogram::new_with_bounds(1_000, hour, 3).expect("sound bounds")
}

impl Report {
    pub(super) fn new(clients: usize, topics: usize) -> Self {
        Self {
            clients,
            topics,
            connected: 0,
            joined: 0,
            joining: Duration::ZERO,
            refused: Reasons::default(),
            closed: Reasons::default(),
            messages: 0,
            refused_messages: Reasons::default(),
            held_back: 0,
            running: Duration::ZERO,
            deliveries: 0,
            is_echo: false,
            replies: 0,
            lost: 0,
            doubled: 0,
            reordered: 0,
            times: times(),
            storm: None,
            behind: Duration::ZERO,
            cpu: Duration::ZERO,
            server: None,
        }
    }

    /// What was wrong, in one sentence; `None` if nothing.
    pub(super) fn problem(&self) -> Option<String> {
        let counts = [
            (self.lost, "lost"),
            (self.doubled, "doubled"),
            (self.reordered, "out of order"),
        ];
        let (name, _) = self.results();
        let mut parts: Vec<_> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {name} were {what}"))
            .collect();
        for (reasons, what) in [
            (&self.refused, "clients could not join"),
            (&self.closed, "clients were closed"),
            (&self.refused_messages, "messages were refused"),
        ] {
            if let Some(first) = reasons.first() {
                parts.push(format!("{} {what} ({first})", reasons.total()));
            }
        }
        if self.held_back > 0 {
            let held_back = self.held_back;
            parts.push(format!(
                "{held_back} messages were not sent, because the server did not read"
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// How often the server has done what its CPU time is divided by: deliveries, replies or, after a storm, clients
    /// that are back.
    pub(super) fn work(&self) -> u64 {
        let storm = self.storm.as_ref();
        storm.map_or(self.results().1, |storm| storm.back)
    }

    /// What the messages of the load are counted as: an echo load has replies, and any other has deliveries.
    pub(super) fn results(&self) -> (&'static str, u64) {
        if self.is_echo {
            ("replies", self.replies)
        } else {
            ("deliveries", self.deliveries)
        }
    }

    pub(super) fn json(&self) -> Value {
        let mut json = json!({
            "clients": self.clients,
            "topics": self.topics,
            "connected": self.connected,
            "joined": self.joined,
            "joining_seconds": self.joining.as_secs_f64(),
            "joins_per_second": rate(self.joined, self.joining),
            "refused": self.refused.0,
            "closed": self.closed.0,
            "seconds": self.running.as_secs_f64(),
            "messages": self.messages,
            "messages_per_second": rate(self.messages, self.running),
            "refused_messages": self.refused_messages.0,
            "held_back": self.held_back,
            "deliveries": self.deliveries,
            "deliveries_per_second": rate(self.deliveries, self.running),
            "replies": self.replies,
            "replies_per_second": rate(self.replies, self.running),
            "delivery_ms": json_of(&self.times),
            "lost": self.lost,
            "doubled": self.doubled,
            "reordered": self.reordered,
            "behind_ms": self.behind.as_secs_f64() * 1e3,
            "load_cpu_seconds": self.cpu.as_secs_f64(),
        });
        if let Some(storm) = &self.storm {
            json["storm"] = json!({
                "away": storm.away,
                "back": storm.back,
                "seconds": storm.took.as_secs_f64(),
                "resumed_channels": storm.resumed,
                "quiet_ms": json_of(&storm.quiet),
            });
        }
        if let Some(server) = &self.server {
            json["server_cpu_us_each"] = server.cpu_us_each.into();
            json["server_bytes_each"] = server.bytes_each.into();
        }
        json
    }
}

/// Milliseconds by quantile.
fn quantiles(times: &Histogram<u64>) -> [(&'static str, f64); 4] {
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    [
        ("p50", ms(0.5)),
        ("p99", ms(0.99)),
        ("p99.9", ms(0.999)),
        ("max", ms(1.0)),
    ]
}

fn json_of(times: &Histogram<u64>) -> Value {
    let quantiles: BTreeMap<_, _> = quantiles(times).into_iter().collect();
    json!(quantiles)
}

fn line_of(times: &Histogram<u64>) -> String {
    let quantiles = quantiles(times).map(|(name, ms)| format!("{name} {ms:.2} ms"));
    quantiles.join(", ")
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    count as f64 / time.as_secs_f64()
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joining = self.joining.as_secs_f64();
        let joins = rate(self.joined, self.joining);
        writeln!(
            f,
            "clients     {} of {} joined {} topics in {joining:.2} s, {joins:.0}/s",
            self.joined, self.clients, self.topics
        )?;
        writeln!(f, "refused     {}", self.refused)?;
        writeln!(f, "closed      {}", self.closed)?;
        if self.messages > 0 {
            let seconds = self.running.as_secs_f64();
            let messages = rate(self.messages, self.running);
            writeln!(
                f,
                "messages    {} in {seconds:.2} s, {messages:.0}/s",
                self.messages
            )?;
            if self.refused_messages.total() > 0 {
                writeln!(f, "  refused   {}", self.refused_messages)?;
            }
            if self.held_back > 0 {
                writeln!(f, "  not sent  {}", self.held_back)?;
            }
            let (name, count) = self.results();
            let each_second = rate(count, self.running);
            writeln!(f, "{name:<12}{count}, {each_second:.0}/s")?;
            if let Some(storm) = &self.storm {
                writeln!(
                    f,
                    "storm       {} of {} clients were back after {:.2} s, and {} channels missed nothing",
                    storm.back,
                    storm.away,
                    storm.took.as_secs_f64(),
                    storm.resumed
                )?;
                writeln!(f, "before it   {}", line_of(&storm.quiet))?;
            }
            writeln!(f, "took        {}", line_of(&self.times))?;
            writeln!(
                f,
                "lost        {}, doubled {}, out of order {}",
                self.lost, self.doubled, self.reordered
            )?;
        }
        if let Some(server) = &self.server {
            writeln!(
                f,
                "the server  {:.2} µs of CPU each, {} bytes a client",
                server.cpu_us_each, server.bytes_each
            )?;
        }
        write!(
            f,
            "the load    {:.2} s of CPU, at most {:.2} ms behind its schedule",
            self.cpu.as_secs_f64(),
            self.behind.as_secs_f64() * 1e3
        )
    }
}
