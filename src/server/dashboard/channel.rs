//! [`DashboardChannel`]: one open dashboard. It answers the requests of the page, and passes a tail on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Dashboard;
use super::audit::Deed;
use super::operator::Operator;
use super::requests::{Answer, Request, topic};
use super::tail::{Tail, TailNews};
use crate::channel::{
    Channel, Context, HandleIn, HandleInResult, Handled, Join, JoinResult, Refused, SocketRef,
};
use crate::message::{Payload, Reply};

/// The one topic.
pub(super) const TOPIC: &str = "admin:dashboard";
/// The event of the push of each second.
pub(super) const SNAPSHOT: &str = "snapshot";

/// The most requests of one dashboard that run at once.
const MAX_RUNNING: usize = 8;

pub(super) struct DashboardChannel {
    dashboard: Arc<Dashboard>,
    operator: Operator,
    running: usize,
    tail: Option<Tail>,
}

/// What tasks of the channel tell it.
pub(super) enum Info {
    Answered(SocketRef, Answer),
    Tail(u64, TailNews),
}

impl Channel for DashboardChannel {
    type Info = Info;

    async fn join(_: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let operator = ctx.assigns().get::<Operator>().copied();
        let operator = operator.ok_or(Refused::because("nobody has signed in"))?;
        let dashboard = ctx.state::<Dashboard>();
        let reply = dashboard.hello();
        dashboard.0.own.joins.fetch_add(1, Ordering::Relaxed);
        let channel = Self {
            dashboard,
            operator,
            running: 0,
            tail: None,
        };
        Ok(Join::reply(channel, reply))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        let own = &self.dashboard.0.own;
        own.messages.fetch_add(1, Ordering::Relaxed);
        let request = match event {
            "tail" => match topic(&payload) {
                Ok(topic) => return Ok(HandleIn::ok(self.follow(topic, ctx))),
                Err(reason) => return Ok(refused(&reason)),
            },
            "untail" => {
                self.tail = None;
                return Ok(HandleIn::ok(json!({})));
            }
            _ => Request::read(event, &payload),
        };
        let (request, to) = match (request, ctx.socket_ref()) {
            (Err(reason), _) => return Ok(refused(&reason)),
            (Ok(_), None) => return Ok(HandleIn::NoReply),
            (Ok(_), _) if self.running == MAX_RUNNING => {
                return Ok(refused("Too many requests at once. Please try again."));
            }
            (Ok(request), Some(to)) => (request, to),
        };
        self.running += 1;
        let (dashboard, operator) = (Arc::clone(&self.dashboard), self.operator);
        let handle = ctx.handle();
        // A task of its own: one that waits for the database does not hold up the others.
        actix_rt::spawn(async move {
            let answer = dashboard.answer(request, operator).await;
            // An error: the page was closed meanwhile.
            let _ = handle.send(Info::Answered(to, answer));
        });
        Ok(HandleIn::NoReply)
    }

    async fn handle_info(&mut self, info: Info, ctx: &mut Context<Self>) -> Handled {
        match info {
            Info::Answered(to, answer) => {
                self.running -= 1;
                let reply = match answer {
                    Ok(answer) => Reply::ok(answer),
                    Err(reason) => Reply::error_because(&reason),
                };
                ctx.reply(&to, &reply)?;
            }
            Info::Tail(number, news) => {
                let Some(tail) = self.tail.as_ref().filter(|tail| tail.number() == number) else {
                    return Ok(());
                };
                match news {
                    TailNews::Message(message) => ctx.push("tail", message)?,
                    TailNews::End => {
                        let topic = json!({ "topic": tail.topic() });
                        self.tail = None;
                        ctx.push("tail_end", topic)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl DashboardChannel {
    /// Begins a tail, in place of the one before.
    fn follow(&mut self, topic: String, ctx: &Context<Self>) -> Value {
        if let Some(before) = self.tail.take()
            && before.topic() != topic
        {
            // An error: the channel is ending.
            let _ = ctx.push("tail_end", json!({ "topic": before.topic() }));
        }
        let deed = Deed {
            topic: Some(&topic),
            ..Deed::default()
        };
        self.operator.audit("followed", &deed);
        let tail = Tail::begin(self.dashboard.pubsub(), topic, ctx.handle());
        let until = tail.until();
        self.tail = Some(tail);
        json!({ "until": until })
    }
}

fn refused(reason: &str) -> HandleIn {
    HandleIn::Reply(Reply::error_because(reason))
}
