//! The variables of a path: [`LoggedTopic`], [`MessageInPath`] and [`NameInPath`].

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderName, LOCATION};
use actix_web::web::{Data, Path};
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{ApiError, ROOT, Shared};
use crate::log::MessageId;
use crate::message::MAX_NAME_LEN;
use crate::pattern::first_match;
use crate::server::rooms::Room;

/// The characters that a path must escape.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const TOPIC: &str = "topic";

/// A topic of a room that keeps messages.
pub(super) struct LoggedTopic {
    pub(super) name: String,
    pub(super) room: Arc<Room>,
}

impl LoggedTopic {
    /// The header `Location` of a message.
    pub(super) fn location(&self, id: MessageId) -> (HeaderName, String) {
        let name = utf8_percent_encode(&self.name, ENCODED);
        (LOCATION, format!("{ROOT}/topics/{name}/messages/{id}"))
    }

    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let name = name(request)?;
        let shared = request
            .app_data::<Data<Shared>>()
            .ok_or(ApiError::NoRoute)?;
        Self::named(shared, name)
    }

    /// The topic with this name.
    pub(super) fn named(shared: &Shared, name: String) -> Result<Self, ApiError> {
        check_name(TOPIC, &name)?;
        let rooms = shared.rooms();
        let room = first_match(&*rooms, &name).ok_or(ApiError::NoLog)?;
        let room = Arc::clone(room);
        Ok(Self { name, room })
    }
}

impl FromRequest for LoggedTopic {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

/// The user or the token in the path.
pub(super) struct NameInPath(pub(super) String);

impl FromRequest for NameInPath {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(name(request).map(Self))
    }
}

/// The first variable of the path: a name that the database can store.
fn name(request: &HttpRequest) -> Result<String, ApiError> {
    let (variable, _) = request
        .match_info()
        .iter()
        .next()
        .ok_or(ApiError::NoRoute)?;
    let name = segment(request, 0).ok_or(ApiError::NoRoute)?;
    // In `name` actix has replaced bytes that are not UTF-8.
    if percent_decode_str(request.path()).decode_utf8().is_err() {
        return Err(ApiError::field(variable, "must be UTF-8"));
    }
    check_name(variable, &name)?;
    Ok(name)
}

/// Refuses a name that the database cannot store.
fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    if name.len() > MAX_NAME_LEN {
        let problem = format!("must have at most {MAX_NAME_LEN} bytes");
        return Err(ApiError::field(field, problem));
    }
    if name.contains('\0') {
        return Err(ApiError::field(field, "must not hold NUL"));
    }
    Ok(())
}

/// The id of the message in the path.
pub(super) struct MessageInPath(pub(super) MessageId);

impl FromRequest for MessageInPath {
    type Error = ApiError;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = segment(request, 1).and_then(|id| id.parse().ok());
        ready(id.map(Self).ok_or(ApiError::UnknownMessage))
    }
}

/// The variable number `at` of the path, percent-decoded.
fn segment(request: &HttpRequest, at: usize) -> Option<String> {
    let segments = Path::<Vec<String>>::extract(request);
    let segments = futures_util::FutureExt::now_or_never(segments)?.ok()?;
    segments.into_inner().into_iter().nth(at)
}
