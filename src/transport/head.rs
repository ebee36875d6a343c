//! [`Head`]: the head of a request for a socket, whether an actix-web `App` has routed the request or the
//! edge answers it without one.

use std::net::SocketAddr;

use actix_web::HttpRequest;
use actix_web::dev::{Path, RequestHead};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, Version};

/// The parts of a request that the transports read.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    head: &'a RequestHead,
    /// The whole request; `None` if no App has routed it.
    routed: Option<&'a HttpRequest>,
    is_secure: bool,
}

impl<'a> From<&'a HttpRequest> for Head<'a> {
    fn from(request: &'a HttpRequest) -> Self {
        Self {
            head: request.head(),
            routed: Some(request),
            is_secure: request.app_config().secure(),
        }
    }
}

impl<'a> Head<'a> {
    /// A request that no App has routed, to a path without variables.
    pub(super) fn bare(head: &'a RequestHead, is_secure: bool) -> Self {
        Self {
            head,
            routed: None,
            is_secure,
        }
    }

    /// The whole request, if an App has routed it.
    pub(super) fn routed(&self) -> Option<&'a HttpRequest> {
        self.routed
    }

    pub(super) fn headers(&self) -> &'a HeaderMap {
        self.head.headers()
    }

    pub(super) fn method(&self) -> &'a Method {
        &self.head.method
    }

    pub(super) fn version(&self) -> Version {
        self.head.version
    }

    pub(super) fn path(&self) -> &'a str {
        self.head.uri.path()
    }

    pub(super) fn query_string(&self) -> &'a str {
        self.head.uri.query().unwrap_or_default()
    }

    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.head.peer_addr
    }

    /// Whether the request came over TLS that this server terminates.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The decoded variables of the path.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let variables = self.routed.map(HttpRequest::match_info);
        variables.into_iter().flat_map(Path::iter)
    }
}
