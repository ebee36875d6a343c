//! The methods of a path: HEAD for every GET, and OPTIONS, whose answer lists them. Phoenix: `Plug.Head`.

use actix_web::http::{Method, header};
use actix_web::{FromRequest, Resource};
use actix_web::{Handler, HttpResponse, Responder, Route, guard, web};

/// A route for GET and HEAD. The HTTP server omits the body of the answer to HEAD.
pub(crate) fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A path with GET, HEAD and OPTIONS only.
pub(crate) fn readable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(get().to(handler))
        .default_service(web::to(|method: Method| async move { other(&method) }))
}

/// The answer of a [`readable`] path to any method other than GET and HEAD.
pub(crate) fn other(method: &Method) -> HttpResponse {
    let mut answer = match *method {
        Method::OPTIONS => HttpResponse::NoContent(),
        _ => HttpResponse::MethodNotAllowed(),
    };
    answer
        .insert_header((header::ALLOW, allow([&Method::GET])))
        .finish()
}

/// The header `Allow` of a path with these methods.
pub(crate) fn allow<'a>(methods: impl IntoIterator<Item = &'a Method>) -> String {
    let names = methods.into_iter().flat_map(|method| match *method {
        Method::GET => vec!["GET", "HEAD"],
        _ => vec![method.as_str()],
    });
    let names: Vec<_> = names.chain(["OPTIONS"]).collect();
    names.join(", ")
}
