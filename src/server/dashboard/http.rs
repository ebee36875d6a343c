//! The routes: the page, signing in and out.

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Data, Form, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, Resource};
use serde::Deserialize;

use super::assets::login_page;
use super::export::export;
use super::operator::Operator;
use super::session::{Attempt, COOKIE, LIFETIME};
use super::{Dashboard, ROOT};
use crate::endpoint::Endpoint;
use crate::metrics::metrics;
use crate::rate::{self, Limit};
use crate::server::methods::{self, readable};

/// Nothing but the server's own files, and no page may show the dashboard in a frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Routes everything below `/dashboard`; nothing if there is no dashboard. `endpoint` has its sockets.
pub(crate) fn routes(
    dashboard: Option<(Dashboard, Endpoint)>,
) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + use<> {
    move |config| {
        let Some((dashboard, endpoint)) = dashboard else {
            return;
        };
        config.configure(endpoint.routes());
        let headers = DefaultHeaders::new()
            .add((header::CONTENT_SECURITY_POLICY, POLICY))
            .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            // The link of the start has a token. With `no-referrer` browsers would not name the origin of a form.
            .add((header::REFERRER_POLICY, "same-origin"));
        let scope = web::scope(ROOT)
            .wrap(headers)
            .app_data(Data::new(dashboard))
            .app_data(Data::new(endpoint))
            .service(readable("", enter))
            .service(readable("/", index))
            .service(posted("/login", login).route(methods::get().to(show_login)))
            .service(posted("/logout", logout))
            .service(readable("/export", export))
            .service(readable("/{file}", file));
        config.service(scope);
    }
}

/// A path that takes a POST.
fn posted<F, Args>(path: &str, handler: F) -> Resource
where
    F: actix_web::Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    web::resource(path).route(web::post().to(handler))
}

#[derive(Deserialize)]
struct Link {
    token: Option<String>,
}

/// The path without its slash, and the link of the start.
async fn enter(
    dashboard: Data<Dashboard>,
    request: HttpRequest,
    link: Option<Query<Link>>,
) -> HttpResponse {
    let token = link.and_then(|link| link.into_inner().token);
    match token {
        // Only a browser that opens the link uses it up.
        Some(token) if request.method() == Method::GET => {
            let address = dashboard.address(&request);
            let attempt = dashboard.0.sessions.follow_link(&token, address);
            dashboard.attempted(&request, "link", attempt)
        }
        _ => redirect(HttpResponse::Found(), "/"),
    }
}

/// The page, or the way to the login.
async fn index(dashboard: Data<Dashboard>, request: HttpRequest) -> HttpResponse {
    match dashboard.operator(&request) {
        Some(_) => dashboard.0.assets.index(&request),
        None => redirect(HttpResponse::Found(), "/login"),
    }
}

async fn file(
    dashboard: Data<Dashboard>,
    request: HttpRequest,
    name: Path<String>,
) -> HttpResponse {
    dashboard.0.assets.file(&name, &request)
}

async fn show_login(dashboard: Data<Dashboard>, request: HttpRequest) -> HttpResponse {
    match dashboard.operator(&request) {
        Some(_) => redirect(HttpResponse::Found(), "/"),
        None => html(HttpResponse::Ok(), login_page("false")),
    }
}

#[derive(Deserialize)]
struct Credentials {
    password: String,
}

async fn login(
    dashboard: Data<Dashboard>,
    request: HttpRequest,
    credentials: Form<Credentials>,
) -> HttpResponse {
    if !dashboard.is_own_page(&request) {
        return foreign();
    }
    let address = dashboard.address(&request);
    let sessions = &dashboard.0.sessions;
    let attempt = sessions.sign_in(&credentials.password, address);
    dashboard.attempted(&request, "password", attempt)
}

async fn logout(
    dashboard: Data<Dashboard>,
    endpoint: Data<Endpoint>,
    request: HttpRequest,
) -> HttpResponse {
    if !dashboard.is_own_page(&request) {
        return foreign();
    }
    if let Some(operator) = dashboard.operator(&request) {
        dashboard.0.sessions.sign_out(operator.session);
        operator.audit_session("signed out", "cookie");
        endpoint.check_permits().await;
    }
    let mut answer = HttpResponse::SeeOther();
    answer.insert_header((header::SET_COOKIE, dashboard.cookie(&request, "", 0)));
    redirect(answer, "/login")
}

impl Dashboard {
    /// The answer to an attempt to sign in. `by` is what was presented, for the log.
    fn attempted(&self, request: &HttpRequest, by: &str, attempt: Attempt) -> HttpResponse {
        match attempt {
            Attempt::Accepted(session) => {
                let address = self.address(request);
                Operator { session, address }.audit_session("signed in", by);
                let value = self.0.sessions.cookie(session);
                let cookie = self.cookie(request, &value, LIFETIME.as_secs());
                let mut answer = HttpResponse::SeeOther();
                answer.insert_header((header::SET_COOKIE, cookie));
                redirect(answer, "/")
            }
            Attempt::Wrong => {
                self.audit_refused(request, by, "wrong");
                html(HttpResponse::Unauthorized(), login_page("true"))
            }
            Attempt::TooMany(wait) => {
                metrics().limited(Limit::Login).increment(1);
                self.audit_refused(request, by, "too many attempts");
                let mut answer = HttpResponse::TooManyRequests();
                let seconds = rate::retry_after_ms(wait).div_ceil(1_000);
                answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
                html(answer, login_page("limited"))
            }
        }
    }

    fn cookie(&self, request: &HttpRequest, value: &str, max_age: u64) -> String {
        let secure = if self.is_secure(request) {
            "; Secure"
        } else {
            ""
        };
        format!(
            "{COOKIE}={value}; Path={ROOT}; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"
        )
    }
}

fn html(mut answer: HttpResponseBuilder, page: String) -> HttpResponse {
    answer
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(page)
}

/// To a path of the dashboard.
fn redirect(mut answer: HttpResponseBuilder, path: &str) -> HttpResponse {
    answer
        .insert_header((header::LOCATION, format!("{ROOT}{path}")))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .finish()
}

fn foreign() -> HttpResponse {
    HttpResponse::build(StatusCode::FORBIDDEN).body("the form is not a page of this server\n")
}
