//! [`Operator`]: the person behind a request or a socket of the dashboard.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{COOKIE, HOST, HeaderName, ORIGIN, X_FORWARDED_PROTO};

use super::Dashboard;
use super::session::{COOKIE as SESSION, Session};
use crate::transport::client_address;

/// A person who has signed in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) session: Session,
    pub(super) address: Option<IpAddr>,
}

impl Dashboard {
    /// Who sends the request; `None` without a session.
    pub(super) fn operator(&self, request: &HttpRequest) -> Option<Operator> {
        let cookies = request.headers().get_all(COOKIE);
        let pairs = cookies
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'));
        let mut values =
            pairs.filter_map(|pair| pair.trim().strip_prefix(SESSION)?.strip_prefix('='));
        let session = values.find_map(|value| self.0.sessions.of_cookie(value))?;
        Some(Operator {
            session,
            address: self.address(request),
        })
    }

    /// The address of the client. Behind a trusted proxy it is the one that the proxy names.
    pub(super) fn address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?;
        let settings = self.settings();
        let client = client_address(peer, request.headers(), &settings.read.trusted_proxies);
        Some(client.ip())
    }

    /// Whether the browser has reached the server by https.
    pub(super) fn is_secure(&self, request: &HttpRequest) -> bool {
        let peer = request.peer_addr().map(|peer| peer.ip());
        let settings = self.settings();
        let is_proxy = peer.is_some_and(|peer| settings.read.trusted_proxies.contains(peer));
        request.app_config().secure()
            || is_proxy && text(request, &X_FORWARDED_PROTO).is_some_and(|proto| proto == "https")
    }

    /// Whether the request may come from a page of this server: its `Origin` has the host to which the request was
    /// sent, or the server's public host. A request without the header does not come from another page.
    pub(super) fn is_own_page(&self, request: &HttpRequest) -> bool {
        if !request.headers().contains_key(ORIGIN) {
            return true;
        }
        let authority = text(request, &ORIGIN).and_then(|origin| origin.split_once("://"));
        let settings = self.settings();
        let public = settings.read.public_host.as_deref();
        authority.is_some_and(|(_, authority)| {
            let host = authority.split(':').next();
            text(request, &HOST).is_some_and(|own| own.eq_ignore_ascii_case(authority))
                || public.is_some_and(|own| host.is_some_and(|host| host.eq_ignore_ascii_case(own)))
        })
    }
}

fn text<'a>(request: &'a HttpRequest, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}
