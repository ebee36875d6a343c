//! The HTTP API: programs list, read, create, update and delete the messages of the rooms. Each
//! change is broadcast to the members of the topic. Programs also send members events that are not stored, and end
//! their channels; they revoke tokens, ban clients, slow topics down, and list and end connections.
//!
//! A read goes to the database directly, so it shows committed messages only. A write goes through
//! [`PubSub`], which broadcasts and stores in one critical section. `openapi.json` describes the API, and tests
//! compare it with the answers. Phoenix: a JSON controller of an application.
//!
//! [`PubSub`]: crate::pubsub::PubSub

mod auth;
mod banning;
mod batch;
mod body;
mod erasing;
mod error;
mod handlers;
mod inspecting;
mod listing;
mod live;
mod output;
mod path;
mod query;
mod revoking;
mod slowing;

use std::sync::{Arc, PoisonError, RwLock};

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route};

pub use self::auth::{Auth, AuthError};
use self::error::ApiError;
use crate::endpoint::Endpoint;
use crate::presence::Presence;
use crate::server::methods;
use crate::server::rooms::Room;
use crate::server::sanctions::Sanctions;
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
    /// The rooms whose messages the API serves. Read once for each request.
    rooms: RwLock<Arc<[Arc<Room>]>>,
    reader: Reader,
    eraser: Eraser,
    sanctions: Sanctions,
    /// Of the rooms. `None` if no room shows who is present.
    presence: Option<Presence>,
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
        let services = ApiServices::default();
        Self::with(auth, endpoint, rooms, writer, max_body, services)
    }

    /// As [`Api::new`], with these services.
    pub(crate) fn with(
        auth: Auth,
        endpoint: &Endpoint,
        rooms: &[Room],
        writer: &DbWriterHandle,
        max_body: usize,
        ApiServices {
            sanctions,
            presence,
        }: ApiServices,
    ) -> Self {
        Self(Arc::new(Shared {
            auth: RwLock::new(Some(Arc::new(auth))),
            endpoint: endpoint.clone(),
            rooms: RwLock::new(shared(rooms)),
            reader: writer.reader(),
            eraser: Eraser::new(writer, endpoint.pubsub()),
            sanctions: sanctions.unwrap_or_else(|| {
                let (revocations, slow_modes) = Default::default();
                Sanctions::new(revocations, slow_modes, writer, endpoint, &Arc::default())
            }),
            presence,
            max_body,
        }))
    }

    /// Lets in the callers of these credentials alone, from now on. `None`: nobody.
    pub(crate) fn set_auth(&self, auth: Option<Auth>) {
        // No code panics while it holds this lock.
        let mut present = self.0.auth.write().unwrap_or_else(PoisonError::into_inner);
        *present = auth.map(Arc::new);
    }

    /// Serves the same rooms with other settings from now on.
    pub(crate) fn set_rooms(&self, rooms: &[Room]) {
        let present = self.0.rooms.write();
        *present.unwrap_or_else(PoisonError::into_inner) = shared(rooms);
    }
}

fn shared(rooms: &[Room]) -> Arc<[Arc<Room>]> {
    rooms.iter().cloned().map(Arc::new).collect()
}

impl Shared {
    fn auth(&self) -> Option<Arc<Auth>> {
        let auth = self.auth.read().unwrap_or_else(PoisonError::into_inner);
        auth.clone()
    }

    fn rooms(&self) -> Arc<[Arc<Room>]> {
        let rooms = self.rooms.read();
        Arc::clone(&rooms.unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the API shares with the sockets of its endpoint.
#[derive(Default)]
pub(crate) struct ApiServices {
    /// The revocations and bans that the sockets heed, and the slow modes that the rooms heed. `None`: those of the API's
    /// own.
    pub(crate) sanctions: Option<Sanctions>,
    /// The presences of the rooms.
    pub(crate) presence: Option<Presence>,
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
fn table() -> [(&'static str, Methods); 19] {
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
            "/messages/batch",
            vec![(Method::POST, web::post().to(batch::create_all))],
        ),
        (
            "/topics",
            vec![(Method::GET, methods::get().to(inspecting::topics))],
        ),
        (
            "/topics/{topic}/members",
            vec![(Method::GET, methods::get().to(inspecting::members))],
        ),
        (
            "/topics/{topic}/presence",
            vec![(Method::GET, methods::get().to(inspecting::presence))],
        ),
        (
            "/connections",
            vec![(Method::GET, methods::get().to(inspecting::connections))],
        ),
        (
            "/connections/{id}",
            vec![(Method::DELETE, web::delete().to(inspecting::end_connection))],
        ),
        (
            "/users/{id}/disconnect",
            vec![(Method::POST, web::post().to(inspecting::disconnect_user))],
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
            "/bans",
            vec![
                (Method::GET, methods::get().to(banning::list)),
                (Method::POST, web::post().to(banning::ban)),
            ],
        ),
        (
            "/bans/{id}",
            vec![(Method::DELETE, web::delete().to(banning::unban))],
        ),
        (
            "/slow-modes",
            vec![(Method::GET, methods::get().to(slowing::list))],
        ),
        (
            "/topics/{topic}/slow-mode",
            vec![
                (Method::GET, methods::get().to(slowing::get)),
                (Method::PUT, web::put().to(slowing::put)),
                (Method::DELETE, web::delete().to(slowing::delete)),
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
