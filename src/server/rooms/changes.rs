//! `update_message`, `delete_message`, `messages_before`, and rules with `older`: the work of a member on stored
//! messages.

use std::sync::Arc;

use serde::Deserialize;

use super::channel::{DELETE_MESSAGE, MESSAGES_BEFORE, RoomChannel, UPDATE_MESSAGE, refuse};
use super::member::{Occasion, too_long};
use super::{event, history};
use crate::channel::{Context, HandleIn, HandleInResult, Refused};
use crate::client::log_client;
use crate::log::{LogEntry, MessageId};
use crate::message::{Payload, RawJson, reason};
use crate::pubsub::Draft;
use crate::server::language::template::Template;
use crate::server::language::{EventRule, OlderRule};

impl RoomChannel {
    /// Publishes a change. The client gets its reply once the change is committed.
    async fn publish_change(&self, draft: Draft, ctx: &Context<RoomChannel>) -> HandleInResult {
        let published = ctx.publish(&draft.with_receipt()).await?;
        Ok(ctx.reply_when_stored(published))
    }

    /// Updates or deletes a stored message. The client always gets a reply.
    pub(super) async fn change(
        &self,
        event: &str,
        payload: &Payload,
        ctx: &Context<RoomChannel>,
    ) -> HandleInResult {
        #[derive(Deserialize)]
        struct Change {
            id: String,
            payload: Option<Box<serde_json::value::RawValue>>,
        }
        let Ok(change) = payload.parse::<Change>() else {
            return Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into());
        };
        let Ok(id) = change.id.parse::<MessageId>() else {
            return Err(refuse(reason::UNKNOWN_MESSAGE, event, ctx).into());
        };
        let new = match (event, change.payload) {
            (DELETE_MESSAGE, None) => None,
            (UPDATE_MESSAGE, Some(new)) if new.get().len() > self.room().max_message_bytes => {
                return Err(too_long(self.room().max_message_bytes).into());
            }
            (UPDATE_MESSAGE, Some(new)) if new.get().starts_with('{') => Some(RawJson::from(new)),
            _ => return Err(refuse(reason::INVALID_PAYLOAD, event, ctx).into()),
        };
        match ctx.pubsub().find(ctx.topic(), id).await {
            Ok(Some(found)) => {
                // The log's current id for it, which may differ from the client's.
                let draft = match &new {
                    None => Draft::delete(found.id()),
                    Some(new) => Draft::update(found.id(), new),
                };
                self.publish_change(draft, ctx).await
            }
            Ok(None) => Err(refuse(reason::UNKNOWN_MESSAGE, event, ctx).into()),
            Err(error) => {
                let (client, topic) = (ctx.client(), ctx.topic());
                log_client!(
                    error, client, topic, %error,
                    "chat.change.unreadable: the client got an error reply; see that the database \
                     answers"
                );
                Err(refuse(reason::STORAGE_UNAVAILABLE, event, ctx).into())
            }
        }
    }

    /// Replies with the messages before a given one, at most as many as a join's history has.
    pub(super) async fn before(
        &self,
        payload: &Payload,
        ctx: &Context<RoomChannel>,
    ) -> HandleInResult {
        #[derive(Deserialize)]
        struct Before {
            before: String,
            limit: Option<usize>,
        }
        let Ok(asked) = payload.parse::<Before>() else {
            return Err(refuse(reason::INVALID_PAYLOAD, MESSAGES_BEFORE, ctx).into());
        };
        let Ok(id) = asked.before.parse::<MessageId>() else {
            return Err(refuse(reason::UNKNOWN_MESSAGE, MESSAGES_BEFORE, ctx).into());
        };
        let entries = self
            .older(Some(id), asked.limit, MESSAGES_BEFORE, ctx)
            .await?;
        let form = history::request(&self.room(), &Payload::EMPTY);
        Ok(HandleIn::ok(form.page(&entries)))
    }

    /// Carries out a rule with `older`: replies with saved messages.
    pub(super) async fn reply_older(
        &mut self,
        (rule, older): (&EventRule, &OlderRule),
        event: &str,
        payload: &Payload,
        ctx: &Context<RoomChannel>,
    ) -> HandleInResult {
        let room = self.room();
        let (_, value) = event::check(self, (&room, rule), event, payload, ctx)?;
        let occasion = Occasion::at(ctx.topic(), &room).event(event, value.as_ref());
        let (before, limit) = self.member.values(&room, occasion, |values| {
            let text = |template: &Option<Template>| template.as_ref()?.text(values);
            (text(&older.before), text(&older.limit))
        });
        let before = before.map(|id| id.parse::<MessageId>()).transpose();
        let before = before.map_err(|_| refuse(reason::UNKNOWN_MESSAGE, event, ctx))?;
        let limit = limit.and_then(|limit| limit.parse().ok());
        let entries = self.older(before, limit, event, ctx).await?;
        let form = history::request(&room, &Payload::EMPTY);
        Ok(HandleIn::ok(form.plain_page(&entries)))
    }

    /// The newest messages, or those before a given one; at most as many as a join's history has.
    async fn older(
        &self,
        before: Option<MessageId>,
        limit: Option<usize>,
        event: &str,
        ctx: &Context<RoomChannel>,
    ) -> Result<Vec<Arc<LogEntry>>, Refused> {
        let most = self.room().history_limit;
        let limit = limit.map_or(most, |limit| limit.min(most)).max(1);
        let read = match before {
            Some(id) => ctx.pubsub().before(ctx.topic(), id, limit).await,
            None => ctx.pubsub().newest(ctx.topic(), limit).await,
        };
        match read {
            Ok(Some(entries)) => Ok(entries),
            // A room that keeps nothing.
            Ok(None) if before.is_none() => Ok(Vec::new()),
            Ok(None) => Err(refuse(reason::UNKNOWN_MESSAGE, event, ctx)),
            Err(error) => {
                let (client, topic) = (ctx.client(), ctx.topic());
                log_client!(
                    error, client, topic, %error,
                    "chat.before.unreadable: the client got an error reply; see that the database \
                     answers"
                );
                Err(refuse(reason::STORAGE_UNAVAILABLE, event, ctx))
            }
        }
    }
}
