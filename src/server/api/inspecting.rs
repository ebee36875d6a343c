//! The handlers that show what is connected, and end connections.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::auth::Authorized;
use super::output::{ConnectionsJson, DisconnectedJson, MembersJson, PresenceJson, TopicsJson};
use super::path::NameInPath;
use super::query::QueryFields;
use super::{ApiError, Shared};
use crate::pattern::first_match;
use crate::pubsub::TopicOrder;
use crate::socket::ConnectionFilter;

type Answer = Result<HttpResponse, ApiError>;

/// The topics that clients have joined.
pub(super) async fn topics(api: Data<Shared>, _: Authorized, request: HttpRequest) -> Answer {
    let mut query = QueryFields::read(request.query_string());
    let prefix = query.text("prefix").unwrap_or_default();
    let orders = [
        ("members", TopicOrder::Members),
        ("messages", TopicOrder::Broadcasts),
        ("topic", TopicOrder::Topic),
    ];
    let order = query.one_of("sort", &orders).unwrap_or_default();
    let limit = query.limit();
    query.finish()?;
    let listed = api.endpoint.list_topics(&prefix, order, limit).await;
    Ok(HttpResponse::Ok().json(TopicsJson::from(&listed)))
}

/// The connections that have joined a topic.
pub(super) async fn members(
    api: Data<Shared>,
    _: Authorized,
    NameInPath(topic): NameInPath,
    request: HttpRequest,
) -> Answer {
    let mut query = QueryFields::read(request.query_string());
    let limit = query.limit();
    query.finish()?;
    let listed = api.endpoint.members(&topic, limit).await;
    Ok(HttpResponse::Ok().json(MembersJson::from(&listed)))
}

/// The presences in a topic.
pub(super) async fn presence(
    api: Data<Shared>,
    _: Authorized,
    NameInPath(topic): NameInPath,
) -> Answer {
    let rooms = api.rooms();
    let room = first_match(&*rooms, &topic);
    let shows = room.is_some_and(|room| room.rules.presence.is_some());
    let presence = api.presence.as_ref().filter(|_| shows);
    let presence = presence.ok_or(ApiError::NoPresence)?.list(&topic);
    Ok(HttpResponse::Ok().json(PresenceJson { presence }))
}

/// The open connections.
pub(super) async fn connections(api: Data<Shared>, _: Authorized, request: HttpRequest) -> Answer {
    let mut query = QueryFields::read(request.query_string());
    let filter = ConnectionFilter {
        user: query.text("user"),
        address: query.parsed("address", "must be an IP address"),
        ..ConnectionFilter::default()
    };
    let limit = query.limit();
    query.finish()?;
    let listed = api.endpoint.list_sockets(filter, limit).await;
    Ok(HttpResponse::Ok().json(ConnectionsJson::from(&listed)))
}

/// Ends one connection.
pub(super) async fn end_connection(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(id): NameInPath,
) -> Answer {
    let filter = ConnectionFilter {
        id: Some(id.parse().map_err(|_| ApiError::UnknownConnection)?),
        ..ConnectionFilter::default()
    };
    if api.disconnect(filter).await? == 0 {
        return Err(ApiError::UnknownConnection);
    }
    caller.audit_disconnected(None, Some(&id), 1);
    Ok(HttpResponse::NoContent().finish())
}

/// Ends the connections of a user.
pub(super) async fn disconnect_user(
    api: Data<Shared>,
    caller: Authorized,
    NameInPath(user): NameInPath,
) -> Answer {
    let filter = ConnectionFilter {
        user: Some(user.clone()),
        ..ConnectionFilter::default()
    };
    let disconnected = api.disconnect(filter).await?;
    caller.audit_disconnected(Some(&user), None, disconnected);
    Ok(HttpResponse::Ok().json(DisconnectedJson { disconnected }))
}

impl Shared {
    async fn disconnect(&self, filter: ConnectionFilter) -> Result<usize, ApiError> {
        if self.endpoint.is_draining() {
            return Err(ApiError::ShuttingDown);
        }
        Ok(self.endpoint.disconnect(filter).await)
    }
}
