//! What a path names: a topic of a room that keeps messages, and one message of it.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderName, LOCATION};
use actix_web::web::{Data, Path};
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{ApiError, ROOT, Shared};
use crate::message::MAX_NAME_LEN;
use crate::pubsub::{MessageId, topic_matches};
use crate::server::chat::Room;

/// What stands for itself in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A topic that keeps messages.
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) room: Arc<Room>,
}

impl Place {
    /// Where a message is found, as a header.
    pub(super) fn location(&self, id: MessageId) -> (HeaderName, String) {
        let topic = utf8_percent_encode(&self.topic, ENCODED);
        (LOCATION, format!("{ROOT}/topics/{topic}/messages/{id}"))
    }

    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let topic = segment(request, 0).ok_or(ApiError::NoRoute)?;
        // actix has put a replacement character for what is no UTF-8.
        if percent_decode_str(request.path()).decode_utf8().is_err() {
            return Err(ApiError::field("topic", "must be UTF-8"));
        }
        if topic.len() > MAX_NAME_LEN {
            let problem = format!("must have at most {MAX_NAME_LEN} bytes");
            return Err(ApiError::field("topic", problem));
        }
        if topic.contains('\0') {
            return Err(ApiError::field("topic", "must not hold NUL"));
        }
        let shared = request
            .app_data::<Data<Shared>>()
            .ok_or(ApiError::NoRoute)?;
        let mut rooms = shared.rooms.iter();
        let room = rooms.find(|room| topic_matches(&room.topics, &topic));
        let room = Arc::clone(room.ok_or(ApiError::NoLog)?);
        Ok(Self { topic, room })
    }
}

impl FromRequest for Place {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

/// The message that the path names.
pub(super) struct Named(pub(super) MessageId);

impl FromRequest for Named {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = segment(request, 1).and_then(|id| id.parse().ok());
        ready(id.map(Self).ok_or(ApiError::UnknownMessage))
    }
}

/// A variable of the path, decoded.
fn segment(request: &HttpRequest, at: usize) -> Option<String> {
    let segments = Path::<Vec<String>>::extract(request);
    let segments = futures_util::FutureExt::now_or_never(segments)?.ok()?;
    segments.into_inner().into_iter().nth(at)
}
