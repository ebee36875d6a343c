//! The HTTP API for messages: programs list, read, create, update and delete the messages of the rooms. Each
//! change is broadcast to the members of the topic. Programs also send members events that are not stored, and end
//! their channels; and they revoke tokens.
//!
//! A read goes to the database directly, so it shows committed messages only. A write goes through
//! [`PubSub`], which broadcasts and stores in one critical section. `openapi.json` describes the API, and tests
//! compare it with the answers. Phoenix: a JSON controller of an application.
//!
//! [`PubSub`]: crate::pubsub::PubSub

mod auth;
mod body;
mod erasing;
mod error;
mod handlers;
mod listing;
mod live;
mod output;
mod path;
mod revoking;

use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route};

pub use self::auth::{Auth, AuthError};
use self::error::ApiError;
use self::revoking::Revoker;
use crate::endpoint::Endpoint;
use crate::revocation::Revocations;
use crate::server::methods;
use crate::server::rooms::Room;
use crate::store::{DbWriterHandle, Eraser, Reader};

/// The path of the API.
const ROOT: &str = "/api";
/// The document at `/api/openapi.json`.
const OPENAPI: &str = include_str!("openapi.json");

/// The API of one server. Cloning is cheap.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

named_debug!(Api);

struct Shared {
    /// Read once for each request. `None`: nobody is let in.
    auth: RwLock<Option<Arc<Auth>>>,
    endpoint: Endpoint,
    /// The rooms whose messages the API serves.
    rooms: Vec<Arc<Room>>,
    reader: Reader,
    eraser: Eraser,
    revoker: Revoker,
    /// Longest body of a request, in bytes.
    max_body: usize,
}

impl Api {
    /// The API for these rooms of the endpoint. `max_body` bounds the body of a request, in bytes.
    pub fn new(
        auth: Auth,
        endpoint: &Endpoint,
        rooms: &[Room],
        writer: &DbWriterHandle,
        max_body: usize,
    ) -> Self {
        let revocations = Revocations::default();
        Self::revoking(auth, endpoint, rooms, writer, max_body, revocations)
    }

    /// As [`Api::new`]. Its revocations are added to these, which the sockets of the endpoint heed.
    pub(crate) fn revoking(
        auth: Auth,
        endpoint: &Endpoint,
        rooms: &[Room],
        writer: &DbWriterHandle,
        max_body: usize,
        revocations: Revocations,
    ) -> Self {
        Self(Arc::new(Shared {
            auth: RwLock::new(Some(Arc::new(auth))),
            endpoint: endpoint.clone(),
            rooms: rooms.iter().cloned().map(Arc::new).collect(),
            reader: writer.reader(),
            eraser: Eraser::new(writer, endpoint.pubsub()),
            revoker: Revoker::new(revocations, writer, endpoint),
            max_body,
        }))
    }

    /// Lets in the callers of these credentials alone, from now on. `None`: nobody.
    pub(crate) fn set_auth(&self, auth: Option<Auth>) {
        // No code panics while it holds this lock.
        let mut present = self.0.auth.write().unwrap_or_else(PoisonError::into_inner);
        *present = auth.map(Arc::new);
    }
}

impl Shared {
    fn auth(&self) -> Option<Arc<Auth>> {
        let auth = self.auth.read().unwrap_or_else(PoisonError::into_inner);
        auth.clone()
    }
}

/// Routes everything below `/api`; nothing if `api` is `None`.
pub fn routes(api: Option<&Api>) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let api = api.cloned();
    move |config| {
        let Some(Api(shared)) = api else {
            return;
        };
        let scope = table()
            .into_iter()
            .map(|(path, methods)| resource(path, methods))
            .fold(web::scope(ROOT), actix_web::Scope::service)
            .default_service(web::to(async || ApiError::NoRoute))
            .app_data(Data::from(shared));
        config.service(scope);
    }
}

/// The methods of a path, each with its route.
type Methods = Vec<(Method, Route)>;

/// All paths of the API with their methods.
fn table() -> [(&'static str, Methods); 8] {
    [
        (
            "/openapi.json",
            vec![(Method::GET, methods::get().to(handlers::document))],
        ),
        (
            "/messages",
            vec![(Method::DELETE, web::delete().to(handlers::erase_everywhere))],
        ),
        (
            "/topics/{topic}/messages",
            vec![
                (Method::GET, methods::get().to(handlers::list)),
                (Method::POST, web::post().to(handlers::create)),
                (Method::DELETE, web::delete().to(handlers::erase)),
            ],
        ),
        (
            "/topics/{topic}/broadcast",
            vec![(Method::POST, web::post().to(live::broadcast))],
        ),
        (
            "/topics/{topic}/close",
            vec![(Method::POST, web::post().to(live::close))],
        ),
        (
            "/topics/{topic}/messages/{id}",
            vec![
                (Method::GET, methods::get().to(handlers::get)),
                (Method::PUT, web::put().to(handlers::update)),
                (Method::DELETE, web::delete().to(handlers::delete)),
            ],
        ),
        (
            "/users/{id}/revoke",
            vec![
                (Method::POST, web::post().to(revoking::revoke_user)),
                (Method::DELETE, web::delete().to(revoking::restore_user)),
            ],
        ),
        (
            "/tokens/{jti}/revoke",
            vec![
                (Method::POST, web::post().to(revoking::revoke_token)),
                (Method::DELETE, web::delete().to(revoking::restore_token)),
            ],
        ),
    ]
}

fn resource(path: &str, methods: Methods) -> Resource {
    let allow = methods::allow(methods.iter().map(|(method, _)| method));
    let other = web::to(move |method: Method| {
        let allow = allow.clone();
        async move {
            match method {
                Method::OPTIONS => Ok(HttpResponse::NoContent()
                    .insert_header((ALLOW, allow))
                    .finish()),
                _ => Err(ApiError::MethodNotAllowed { allow }),
            }
        }
    });
    methods
        .into_iter()
        .fold(web::resource(path), |resource, (_, route)| {
            resource.route(route)
        })
        .default_service(other)
}

#[cfg(test)]
mod tests;
