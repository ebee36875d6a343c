//! [`Member`]: the memory of one membership, and the values of its templates.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::authority::Renewal;
use super::identity::Identity;
use super::random::{Uuid, random_id};
use super::room::Room;
use crate::channel::Refused;
use crate::message::{Payload, RawJson, reason};
use crate::rate::Bucket;
use crate::server::language::MemberRate;
use crate::server::language::template::{Rendered, Template, TooLong, Values, Variable};

/// The most bytes of `me.*`, as JSON.
const MAX_BYTES: usize = 16_384;

/// One member of a room.
#[derive(Debug, Default)]
pub(super) struct Member {
    identity: Option<Arc<Identity>>,
    /// `None` while it is empty, as for most members.
    memory: Option<Box<Memory>>,
}

#[derive(Debug)]
struct Memory {
    /// `me.*`
    me: Rc<Map<String, Value>>,
    /// The join params, if a template names them; else null.
    params: Value,
    /// One for each rate of the room, by its event.
    buckets: Vec<(String, Bucket)>,
    since: Instant,
    presence_key: Option<String>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            me: Rc::default(),
            params: Value::Null,
            buckets: Vec::new(),
            since: Instant::now(),
            presence_key: None,
        }
    }
}

/// The circumstances of templates: a join, an event, an announcement. All its templates have the same time and UUID.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'a> {
    pub(super) topic: &'a str,
    pub(super) event: &'a str,
    pub(super) payload: Option<&'a Value>,
    /// The content of the token that the join needed.
    token: Option<&'a Value>,
    now: SystemTime,
    /// Random if a template of the room names it.
    uuid: Uuid,
}

impl<'a> Occasion<'a> {
    /// Without an event.
    pub(super) fn at(topic: &'a str, room: &Room) -> Self {
        let names_uuid = room.rules.used.has(Variable::Uuid);
        Self {
            topic,
            event: "",
            payload: None,
            token: None,
            now: SystemTime::now(),
            uuid: if names_uuid {
                Uuid::random()
            } else {
                Uuid::default()
            },
        }
    }

    /// The same, with the content of the join's token.
    pub(super) fn token(self, token: Option<&'a Value>) -> Self {
        Self { token, ..self }
    }

    /// An event of the member; `payload`: `None` if no template names it.
    pub(super) fn event(self, event: &'a str, payload: Option<&'a Value>) -> Self {
        Self {
            event,
            payload,
            ..self
        }
    }
}

impl Member {
    /// `params`: null if no template names them.
    pub(super) fn new(identity: Option<Arc<Identity>>, params: Value) -> Self {
        let memory = (!params.is_null()).then(|| {
            Box::new(Memory {
                params,
                ..Memory::default()
            })
        });
        Self { identity, memory }
    }

    /// Renews the identity. `None` if it does not come from a JWT.
    pub(super) fn renewal(&self) -> Option<&Renewal> {
        self.identity.as_deref()?.renewal.as_deref()
    }

    pub(super) fn params(&self) -> &Value {
        self.memory
            .as_ref()
            .map_or(&Value::Null, |memory| &memory.params)
    }

    /// The key under which the member is present.
    pub(super) fn presence_key(&self) -> Option<&str> {
        self.memory.as_ref()?.presence_key.as_deref()
    }

    pub(super) fn set_presence_key(&mut self, key: String) {
        self.memory_mut().presence_key = Some(key);
    }

    fn memory_mut(&mut self) -> &mut Memory {
        self.memory.get_or_insert_default()
    }

    /// Calls `use_values` with the values of the member's templates.
    pub(super) fn values<T>(
        &self,
        room: &Room,
        occasion: Occasion<'_>,
        use_values: impl FnOnce(&Values<'_>) -> T,
    ) -> T {
        let names_uuid = room.rules.used.has(Variable::Uuid);
        let uuid = if names_uuid {
            occasion.uuid.to_string()
        } else {
            String::new()
        };
        let user = self.identity.as_ref().map(|identity| identity.user());
        use_values(&Values {
            user: user.as_deref(),
            me: self.memory.as_ref().map(|memory| &*memory.me),
            params: Some(self.params()),
            payload: occasion.payload,
            token: occasion.token,
            topic: occasion.topic,
            matched: room.topics.rest(occasion.topic),
            event: occasion.event,
            uuid: &uuid,
            now: Some(occasion.now),
            socket_id: self.identity.as_ref().map_or("", |it| &it.socket_id),
            ..Values::default()
        })
    }

    /// The member's labels, by which messages select it. `None` without an identity and a memory.
    pub(super) fn labels(&self) -> Option<impl Fn(&str) -> Option<String> + 'static> {
        let (identity, memory) = (self.identity.clone(), self.memory.as_ref());
        let me = memory.map(|memory| Rc::clone(&memory.me));
        if identity.is_none() && me.is_none() {
            return None;
        }
        Some(move |label: &str| {
            let user = identity.as_ref().map(|identity| identity.user());
            let values = Values {
                user: user.as_deref(),
                me: me.as_deref(),
                socket_id: identity.as_ref().map_or("", |it| &it.socket_id),
                ..Values::default()
            };
            values.label(label)
        })
    }

    /// Renders a template, with at most as many bytes as a message of the room.
    pub(super) fn render(
        &self,
        room: &Room,
        occasion: Occasion<'_>,
        template: &Template,
    ) -> Result<Rendered, Refused> {
        let rendered = self.values(room, occasion, |values| {
            template.render(values, room.max_message_bytes)
        });
        rendered.map_err(|TooLong { max }| too_long(max))
    }

    /// Renders a template as a payload, with a random id if it names one.
    pub(super) fn payload(
        &self,
        room: &Room,
        occasion: Occasion<'_>,
        template: &Template,
    ) -> Result<Payload, Refused> {
        let rendered = self.render(room, occasion, template)?;
        let id = if rendered.has_id() {
            random_id()
        } else {
            String::new()
        };
        let json = RawJson::trusted(rendered.with_id(&id).into());
        Ok(Payload::Json(json))
    }

    /// Lays `set` over `me.*`.
    ///
    /// # Errors
    /// If `me.*` becomes too large.
    pub(super) fn set(
        &mut self,
        room: &Room,
        occasion: Occasion<'_>,
        set: &Template,
    ) -> Result<(), Refused> {
        let rendered = self.render(room, occasion, set)?;
        let new: Map<String, Value> =
            serde_json::from_str(&rendered.with_id("")).unwrap_or_default();
        let memory = self.memory_mut();
        let mut me = Map::clone(&memory.me);
        me.extend(new);
        if bytes(&me) > MAX_BYTES {
            return Err(too_long(MAX_BYTES));
        }
        memory.me = Rc::new(me);
        Ok(())
    }

    /// The identity of its socket, if there is one.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// `me.*`
    pub(super) fn me(&self) -> Option<&Map<String, Value>> {
        self.memory.as_ref().map(|memory| &*memory.me)
    }

    /// Lays the fields of the backend's answer over `user.*` and `me.*`.
    ///
    /// # Errors
    /// If one of them becomes too large; then neither has changed.
    pub(super) fn merge(
        &mut self,
        user: &Map<String, Value>,
        me: &Map<String, Value>,
    ) -> Result<(), TooLong> {
        let identity = match &self.identity {
            _ if user.is_empty() => None,
            Some(identity) => Some(identity.with(user)?),
            None => Some(Identity::new(json!({})).with(user)?),
        };
        if !me.is_empty() {
            let mut all = self.me().cloned().unwrap_or_default();
            all.extend(me.clone());
            if bytes(&all) > MAX_BYTES {
                return Err(TooLong { max: MAX_BYTES });
            }
            self.memory_mut().me = Rc::new(all);
        }
        if let Some(identity) = identity {
            self.identity = Some(Arc::new(identity));
        }
        Ok(())
    }

    /// The key under which the limits of users count: `user.id`, else the connection. `None` without an identity.
    pub(super) fn user_key(&self) -> Option<String> {
        let identity = self.identity.as_ref()?;
        Some(
            identity
                .user_id()
                .unwrap_or_else(|| identity.socket_id.clone()),
        )
    }

    /// Counts an event that has a rate.
    ///
    /// # Errors
    /// If the event comes too early: the time to wait.
    pub(super) fn count(&mut self, event: &str, rate: MemberRate) -> Result<(), Duration> {
        let Memory { buckets, since, .. } = self.memory_mut();
        let at = buckets.iter().position(|(known, _)| known == event);
        let at = at.unwrap_or_else(|| {
            buckets.push((event.to_owned(), Bucket::default()));
            buckets.len() - 1
        });
        let now = since.elapsed();
        buckets[at].1.take(rate.rate(), 1, now)
    }
}

fn bytes(me: &Map<String, Value>) -> usize {
    serde_json::to_string(me).map_or(usize::MAX, |json| json.len())
}

pub(super) fn too_long(max: usize) -> Refused {
    Refused::new(json!({ "reason": reason::MESSAGE_TOO_LONG, "max_message_bytes": max }))
}
