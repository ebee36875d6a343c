//! Sessions of long-polling clients on other nodes of a cluster. A session lives on the node where it began; its token
//! names that node. A request that comes to another node goes there, and its answer comes back.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::web::Bytes;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytestring::ByteString;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::delivery::Delivery;
use super::longpoll_server::{Poll, PollBatch, Posted, Publish, Sessions};
use crate::lock::lock;
use crate::pubsub::Neighbours;

/// The largest body that goes to another node, in bytes.
const MAX_BODY: usize = 1_000_000;
/// How much longer than a poll its answer may take.
const MARGIN: Duration = Duration::from_secs(2);

/// A session on another node.
pub(super) struct RemoteSession {
    neighbours: Neighbours,
    node: u64,
    token: String,
    limit: Duration,
}

/// What a node asks the node of a session.
#[derive(Serialize, Deserialize)]
enum Request {
    Poll {
        token: String,
    },
    Publish {
        token: String,
        body: String,
        lines: bool,
    },
    /// What became of the answer with this number.
    Fate {
        token: String,
        answer: u64,
        delivered: bool,
    },
}

impl Request {
    fn token(&self) -> &str {
        match self {
            Self::Poll { token } | Self::Publish { token, .. } | Self::Fate { token, .. } => token,
        }
    }

    fn encode(&self) -> Bytes {
        // Texts and numbers have a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Batch {
        messages: Vec<String>,
        /// Names the answer, if its fate matters.
        answer: Option<u64>,
    },
    Posted(u8),
}

/// The number of this node in the tokens of its sessions, in front of the part that nobody can guess.
pub(super) fn mark(token: &mut Vec<u8>, neighbours: Option<&Neighbours>) {
    if let Some(neighbours) = neighbours {
        token.extend_from_slice(&neighbours.me().to_be_bytes());
    }
}

/// The session of a token that another node has made.
pub(super) fn find(
    token: &str,
    neighbours: Option<&Neighbours>,
    window: Duration,
) -> Option<RemoteSession> {
    let neighbours = neighbours?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let node = u64::from_be_bytes(*bytes.first_chunk()?);
    (node != neighbours.me()).then(|| RemoteSession {
        neighbours: neighbours.clone(),
        node,
        token: token.to_owned(),
        limit: window + MARGIN,
    })
}

impl RemoteSession {
    /// The messages of a poll; `None` if the session has ended.
    pub(super) async fn poll(&self) -> Option<PollBatch> {
        let token = self.token.clone();
        let Answer::Batch { messages, answer } = self.ask(&Request::Poll { token }).await? else {
            return None;
        };
        let messages = messages.into_iter().map(ByteString::from).collect();
        let delivery = answer.map(|answer| self.report(answer));
        Some(PollBatch { messages, delivery })
    }

    /// Tells the session's node what becomes of an answer.
    fn report(&self, answer: u64) -> Delivery {
        let (delivery, fate) = Delivery::new();
        let (neighbours, node, token) = (self.neighbours.clone(), self.node, self.token.clone());
        actix_rt::spawn(async move {
            let delivered = poll_fn(|cx| fate.poll(cx)).await;
            let fate = Request::Fate {
                token,
                answer,
                delivered,
            };
            neighbours.tell(node, fate.encode());
        });
        delivery
    }

    /// Hands over messages; `None` if the session has ended.
    pub(super) async fn publish(&self, publish: Publish) -> Option<Posted> {
        let (body, lines) = match publish {
            Publish::Text(body) => (body, false),
            Publish::Lines(body) => (body, true),
        };
        if body.len() > MAX_BODY {
            return Some(Posted::TooMany);
        }
        let request = Request::Publish {
            token: self.token.clone(),
            // Undecodable text ends the session there, as it does here. In its place goes text that is no message.
            body: String::from_utf8(body.to_vec()).unwrap_or_else(|_| "!".to_owned()),
            lines,
        };
        match self.ask(&request).await? {
            Answer::Posted(number) => Some(Posted::of_number(number)),
            Answer::Batch { .. } => None,
        }
    }

    async fn ask(&self, request: &Request) -> Option<Answer> {
        let answer = self
            .neighbours
            .ask(self.node, request.encode(), self.limit)
            .await?;
        serde_json::from_slice(&answer).ok()
    }
}

/// Answers with messages that other nodes hand to clients of this one's sessions.
#[derive(Default)]
struct Lent {
    next: AtomicU64,
    deliveries: Mutex<HashMap<u64, Delivery>>,
}

/// Answers other nodes' requests for these sessions.
pub(super) fn serve_others(neighbours: &Neighbours, sessions: &Sessions, window: Duration) {
    let (sessions, lent) = (sessions.clone(), Arc::<Lent>::default());
    neighbours.answer_with(Arc::new(move |request| {
        let request: Request = serde_json::from_slice(&request).ok()?;
        let session = sessions.find(request.token())?;
        let lent = Arc::clone(&lent);
        let answer = async move {
            let answer = match request {
                Request::Poll { .. } => lent.lend(session.send(Poll).await.ok()?, window),
                Request::Publish { body, lines, .. } => {
                    let publish = if lines {
                        Publish::Lines(body.into())
                    } else {
                        Publish::Text(body.into())
                    };
                    Answer::Posted(session.send(publish).await.ok()?.number())
                }
                Request::Fate {
                    answer, delivered, ..
                } => {
                    lent.end(answer, delivered);
                    return None;
                }
            };
            serde_json::to_vec(&answer).ok()
        };
        Some(
            answer
                .map(|answer| answer.unwrap_or_default().into())
                .boxed(),
        )
    }));
}

impl Lent {
    /// The batch for another node. If that says nothing of its fate in time, it is lost, and its messages come again.
    fn lend(self: &Arc<Self>, batch: PollBatch, window: Duration) -> Answer {
        let answer = batch.delivery.map(|delivery| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            lock(&self.deliveries).insert(number, delivery);
            let lent = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(window).await;
                lent.end(number, false);
            });
            number
        });
        Answer::Batch {
            messages: batch.messages.iter().map(ToString::to_string).collect(),
            answer,
        }
    }

    fn end(&self, number: u64, delivered: bool) {
        let delivery = lock(&self.deliveries).remove(&number);
        if let Some(delivery) = delivery.filter(|_| delivered) {
            delivery.written();
        }
    }
}
