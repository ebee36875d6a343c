//! An application that uses every feature of channels, written with the public API only.
//! The same application on Phoenix 1.8.12 made the recordings in `tests/fixtures/conformance`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use slackir::channel::{
    Channel, Context, Failure, HandleIn, HandleInResult, Handled, Join, JoinResult, Refused,
    SendError, StopReason,
};
use slackir::endpoint::TransportOptions;
use slackir::message::{Binary, Payload, Reply};
use slackir::presence::{Presence, PresenceError};
use slackir::pubsub::{Broadcast, PubSub};
use slackir::server::rooms::{Room, RoomChannel};
use slackir::socket::{ConnectInfo, ConnectRefused, Params, Socket, SocketRouter};
use slackir::transport::{CheckOrigin, HandshakeOptions, LongPollOptions};
use slackir::{Assigns, Endpoint, Mount};

/// The application, mounted at `/socket`.
pub(crate) fn endpoint() -> Endpoint {
    endpoint_with(LongPollOptions::default())
}

/// The application with another poll window for its long-polling clients.
pub(crate) fn endpoint_with(longpoll_options: LongPollOptions) -> Endpoint {
    let pubsub = PubSub::new();
    let presence = Presence::new(pubsub.clone());
    let router = SocketRouter::new()
        .state(Room::default())
        .state(presence)
        .channel::<RoomChannel>("random:*")
        .channel::<ConformanceChannel>("conf:*")
        // Supabase's clients put this before every topic.
        .channel::<ConformanceChannel>("realtime:*")
        .channel::<PresenceChannel>("presence:*");
    let transports = TransportOptions::default()
        .longpoll("longpoll")
        .longpoll_options(longpoll_options)
        .handshake(HandshakeOptions::default().check_origin(CheckOrigin::Off));
    Endpoint::builder(pubsub)
        .mount(Mount::new("/socket", UserSocket, router).transports(transports))
        .build()
}

/// `deny=1` is refused; `user_id=X` names the socket `users:X`.
struct UserSocket;

#[derive(Clone)]
struct UserId(String);

impl Socket for UserSocket {
    async fn connect(
        &self,
        params: &Params,
        _info: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        if params.get("deny") == Some("1") {
            return Err(ConnectRefused::because("deny=1"));
        }
        if let Some(user) = params.get("user_id") {
            assigns.insert(UserId(user.to_owned()));
        }
        Ok(())
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        assigns
            .get::<UserId>()
            .map(|UserId(user)| format!("users:{user}"))
    }
}

const BINARY: Bytes = Bytes::from_static(&[0, 1, 0xFE, 0xFF]);

/// Join parameters.
#[derive(Default, Deserialize)]
#[serde(default)]
struct JoinParams {
    want_reply: bool,
    push_after_join: u32,
}

/// The messages that the channel sends to itself.
enum Info {
    AfterJoin { pushes: u32 },
    Tick,
}

#[derive(Deserialize)]
struct EndpointBroadcast {
    topic: String,
    event: String,
    payload: Value,
}

#[derive(Default)]
struct ConformanceChannel {
    count: u64,
}

impl ConformanceChannel {
    /// Broadcasts to a topic from outside its channels. A refused broadcast crashes the channel, as in Phoenix.
    async fn endpoint_broadcast(payload: &Payload, ctx: &Context<Self>) -> HandleInResult {
        let EndpointBroadcast {
            topic,
            event,
            payload,
        } = payload.parse().map_err(StopReason::from)?;
        let sent = ctx.pubsub().broadcast(&topic, &event, payload).await;
        sent.map_err(StopReason::from)?;
        Ok(HandleIn::ok(Payload::EMPTY))
    }

    /// Closes all connections of this user.
    async fn disconnect_me(ctx: &Context<Self>) -> HandleInResult {
        if let Some(UserId(user)) = ctx.assigns().get() {
            let id = format!("users:{user}");
            ctx.pubsub().broadcast(&id, "disconnect", json!({})).await?;
        }
        Ok(HandleIn::NoReply)
    }

    /// Replies from another task, 50 ms later.
    fn async_reply(payload: Payload, ctx: &Context<Self>) -> HandleIn {
        if let Some(socket) = ctx.socket_ref() {
            actix_rt::spawn(async move {
                actix_rt::time::sleep(Duration::from_millis(50)).await;
                // A long-polling client can send binary data, but cannot receive it.
                if let Err(error) = socket.reply(&Reply::ok(payload)) {
                    tracing::warn!(%error, "conformance.async_reply");
                }
            });
        }
        HandleIn::NoReply
    }
}

/// A push or broadcast that fails crashes the channel, as in Phoenix.
fn sent(result: Result<(), SendError>) -> HandleInResult {
    result.map_err(StopReason::from)?;
    Ok(HandleIn::NoReply)
}

impl Channel for ConformanceChannel {
    type Info = Info;

    fn intercept() -> &'static [&'static str] {
        &["intercepted"]
    }

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        match ctx.topic() {
            "conf:deny" => return Err(Refused::because("unauthorized").into()),
            "conf:crash" => panic!("asked to crash in join"),
            _ => {}
        }
        let JoinParams {
            want_reply,
            push_after_join,
        } = params.parse().unwrap_or_default();
        if push_after_join > 0 {
            let after = Info::AfterJoin {
                pushes: push_after_join,
            };
            ctx.handle().send(after)?;
        }
        match params {
            Payload::Json(params) if want_reply => {
                let reply = json!({ "params": params.parse::<Value>().unwrap_or_default() });
                Ok(Join::reply(Self::default(), reply))
            }
            _ => Ok(Join::ok(Self::default())),
        }
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        Ok(match event {
            "echo" => HandleIn::ok(payload),
            "reply_error" => HandleIn::error(payload),
            "reply_ok_only" => HandleIn::ok(Payload::EMPTY),
            "reply_error_only" => HandleIn::error(Payload::EMPTY),
            "reply_binary" => HandleIn::ok(Binary(BINARY)),
            "noreply" => HandleIn::NoReply,
            "push" => sent(ctx.push("pushed", payload))?,
            "push_binary" => sent(ctx.push("pushed_binary", Binary(BINARY)))?,
            "broadcast" => sent(ctx.broadcast("bcast", payload).await)?,
            "broadcast_from" => sent(ctx.broadcast_from("bcast_from", payload).await)?,
            "broadcast_intercepted" => sent(ctx.broadcast("intercepted", payload).await)?,
            "async_reply" => Self::async_reply(payload, ctx),
            "delayed_push" => {
                ctx.send_after(Duration::from_millis(50), Info::Tick);
                HandleIn::NoReply
            }
            "count" => {
                self.count += 1;
                HandleIn::ok(json!({ "count": self.count }))
            }
            "stop" => HandleIn::Stop(StopReason::Normal),
            "stop_shutdown" => HandleIn::Stop(StopReason::Shutdown),
            "stop_reply" => HandleIn::StopReply(StopReason::Normal, Reply::ok(payload)),
            "stop_error" => HandleIn::Stop(StopReason::error("boom")),
            "crash" => panic!("asked to crash"),
            "disconnect_me" => Self::disconnect_me(ctx).await?,
            "endpoint_broadcast" => Self::endpoint_broadcast(&payload, ctx).await?,
            other => return Err(Failure::unhandled(other)),
        })
    }

    async fn handle_out(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) -> Handled {
        let mut payload: Value = broadcast.payload().parse().unwrap_or_default();
        if payload["skip"] == true {
            return Ok(());
        }
        payload["for"] = ctx
            .assigns()
            .get::<UserId>()
            .map(|UserId(user)| user.clone())
            .into();
        ctx.push(broadcast.event(), payload)?;
        Ok(())
    }

    async fn handle_info(&mut self, info: Info, ctx: &mut Context<Self>) -> Handled {
        match info {
            Info::Tick => ctx.push("tick", json!({}))?,
            Info::AfterJoin { pushes } => {
                (0..pushes).try_for_each(|i| ctx.push("welcome", json!({ "i": i })))?;
            }
        }
        Ok(())
    }

    async fn terminate(&mut self, reason: &StopReason, ctx: &mut Context<Self>) {
        tracing::debug!(topic = ctx.topic(), ?reason, "conformance.terminate");
    }
}

/// Tracks its client, under the key and with the meta of the join's params.
struct PresenceChannel {
    presence: Arc<Presence>,
    key: String,
}

#[derive(Deserialize)]
struct Arrival {
    key: String,
    meta: Value,
}

fn changed(result: Result<String, PresenceError>) -> HandleInResult {
    result.map_err(|error| Refused::because(&error.to_string()))?;
    Ok(HandleIn::ok(Payload::EMPTY))
}

impl Channel for PresenceChannel {
    type Info = ();

    async fn join(params: Payload, ctx: &mut Context<Self>) -> JoinResult<Self> {
        let Ok(Arrival { key, meta }) = params.parse() else {
            return Err(Refused::because("key and meta are required").into());
        };
        let presence = ctx.state::<Presence>();
        let channel = Self {
            presence: Arc::clone(&presence),
            key: key.clone(),
        };
        Ok(Join::ok(channel).with_presence(&presence, key, meta))
    }

    async fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        ctx: &mut Context<Self>,
    ) -> HandleInResult {
        match event {
            "update" => {
                let meta: Value = payload.parse().map_err(StopReason::from)?;
                changed(self.presence.update(ctx, &self.key, &meta))
            }
            "untrack" => {
                self.presence.untrack(ctx, &self.key);
                Ok(HandleIn::ok(Payload::EMPTY))
            }
            "list" => Ok(HandleIn::ok(self.presence.list(ctx.topic()))),
            other => Err(Failure::unhandled(other)),
        }
    }
}
