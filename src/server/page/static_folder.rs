//! Serves the files of a folder. Phoenix: `Plug.Static`.
//!
//! A path leads to a file inside the folder, or to 404. Hidden files are not served, except below
//! `/.well-known/`, and a symbolic link must not lead out of the folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_files::NamedFile;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use percent_encoding::percent_decode_str;

/// The file that is served for a folder.
const INDEX: &str = "index.html";
/// The hidden folder that is served: certificates, app links, security.txt (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// The result of looking a path up.
enum Lookup {
    File(Box<NamedFile>),
    /// A folder whose path does not end with a slash: relative links in its page would be wrong.
    FolderWithoutSlash,
}

/// Answers GET and HEAD. Reads the disk on a thread that may block.
pub(super) async fn serve(folder: Arc<Path>, req: HttpRequest) -> HttpResponse {
    let Some(inside) = path_inside(req.path()) else {
        return HttpResponse::NotFound().finish();
    };
    let is_folder = req.path().ends_with('/');
    match web::block(move || find(&folder, &inside, is_folder)).await {
        Ok(Ok(Lookup::File(file))) => {
            let mut answer = file.respond_to(&req).map_into_boxed_body();
            let headers = answer.headers_mut();
            // The browser revalidates its copy by the ETag.
            headers.insert(
                header::CACHE_CONTROL,
                header::HeaderValue::from_static("no-cache"),
            );
            answer
        }
        Ok(Ok(Lookup::FolderWithoutSlash)) => {
            let mut location = format!("{}/", req.path());
            if !req.query_string().is_empty() {
                location = format!("{location}?{}", req.query_string());
            }
            HttpResponse::PermanentRedirect()
                .insert_header((header::LOCATION, location))
                .finish()
        }
        Ok(Err(_)) => HttpResponse::NotFound().finish(),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

/// The path of a request as a path relative to the folder; `None` if it is not allowed. No segment is empty,
/// so that a redirect to the path stays on this host.
fn path_inside(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut inside = PathBuf::new();
    if path.is_empty() {
        return Some(inside);
    }
    for (depth, segment) in path.split('/').enumerate() {
        let name = percent_decode_str(segment).decode_utf8().ok()?;
        let hidden = name.starts_with('.') && !(depth == 0 && name == WELL_KNOWN);
        if name.is_empty() || hidden || name.contains(['/', '\\', '\0']) {
            return None;
        }
        inside.push(&*name);
    }
    Some(inside)
}

/// Looks a path up. Resolves the folder each time, because a deployment may replace a link to it.
fn find(folder: &Path, inside: &Path, is_folder: bool) -> io::Result<Lookup> {
    let folder = folder.canonicalize()?;
    let within = |path: PathBuf| {
        let path = path.canonicalize()?;
        path.starts_with(&folder)
            .then_some(path)
            .ok_or(io::Error::from(io::ErrorKind::NotFound))
    };
    let mut path = within(folder.join(inside))?;
    match (path.is_dir(), is_folder) {
        (true, false) => return Ok(Lookup::FolderWithoutSlash),
        (true, true) => path = within(path.join(INDEX))?,
        (false, false) => {}
        (false, true) => return Err(io::ErrorKind::NotFound.into()),
    }
    // Opening a pipe would wait for its other end.
    if !path.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Lookup::File(Box::new(NamedFile::open(path)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_file_inside_or_nowhere() {
        for (path, inside) in [
            ("/", Some("")),
            ("/app.js", Some("app.js")),
            ("/help/", Some("help")),
            ("/a%20b/%C3%BC.js", Some("a b/ü.js")),
            (
                "/.well-known/assetlinks.json",
                Some(".well-known/assetlinks.json"),
            ),
            ("/a/.well-known/x", None),
            ("/.well-known/.git", None),
            ("/.env", None),
            ("/%2eenv", None),
            ("/a/../b", None),
            ("/./a", None),
            ("/a/%2e%2e/b", None),
            ("//evil.example/", None),
            ("/a//b", None),
            ("/%5Cevil.example", None),
            ("/a%2Fb", None),
            ("/a%00", None),
            ("/%ff", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(path_inside(path), inside.map(PathBuf::from), "{path}");
        }
    }
}
