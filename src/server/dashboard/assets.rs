//! The files of the page, from the program itself.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::server::page::EMBEDDED_PHOENIX;

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

const INDEX: &str = include_str!("../../../assets/dashboard/index.html");
const LOGIN: &str = include_str!("../../../assets/dashboard/login.html");
/// What the login page shows; the page has it with `false`.
const WRONG: &str = "data-wrong=\"false\"";
/// uPlot's files; empty if the build found none.
static UPLOT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/uplot.mjs"));
static UPLOT_CSS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/uplot.css"));

macro_rules! files {
    ($($name:literal: $content_type:expr,)*) => {
        &[$(($name, $content_type, include_bytes!(concat!("../../../assets/dashboard/", $name)))),*]
    };
}

/// The files of `assets/dashboard` that are no pages.
const FILES: &[(&str, &str, &[u8])] = files! {
    "charts.js": JS,
    "dashboard.css": CSS,
    "dashboard.js": JS,
    "dialogs.css": CSS,
    "dom.js": JS,
    "favicon.svg": SVG,
    "format.js": JS,
    "people.js": JS,
    "room.js": JS,
    "rooms.js": JS,
    "strip.js": JS,
    "system.js": JS,
    "trouble.js": JS,
    "views.css": CSS,
};

/// In place of the page, if the build had no phoenix.js or no uPlot.
const INCOMPLETE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <title>Slackir dashboard</title>\n\
    <p>This build of the server lacks phoenix.js or uPlot, which the dashboard needs. \
    Run <code>npm ci --prefix assets</code> in the sources, and build the server again.\n";

/// A file, with the tag by which a browser asks whether it has changed.
#[derive(Clone)]
struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: Bytes,
    etag: String,
}

impl Asset {
    fn new((name, content_type, content): (&'static str, &'static str, &'static [u8])) -> Self {
        let hash = BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(content)[..12]);
        Self {
            name,
            content_type,
            content: Bytes::from_static(content),
            etag: format!("\"{hash}\""),
        }
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let known = request.headers().get(header::IF_NONE_MATCH);
        let is_known = known.is_some_and(|known| known.as_bytes() == self.etag.as_bytes());
        let mut answer = if is_known {
            HttpResponse::NotModified()
        } else {
            HttpResponse::Ok()
        };
        answer
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::ETAG, &*self.etag));
        if is_known {
            return answer.finish();
        }
        answer
            .content_type(self.content_type)
            .body(self.content.clone())
    }
}

/// All files. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Assets {
    index: Asset,
    files: Arc<[Asset]>,
}

impl Assets {
    pub(super) fn load() -> Self {
        let foreign = [
            ("phoenix.mjs", JS, EMBEDDED_PHOENIX),
            ("uplot.mjs", JS, UPLOT),
            ("uplot.css", CSS, UPLOT_CSS),
        ];
        let is_complete = foreign.iter().all(|(.., content)| !content.is_empty());
        let index = if is_complete { INDEX } else { INCOMPLETE };
        Self {
            index: Asset::new(("index.html", HTML, index.as_bytes())),
            files: FILES
                .iter()
                .copied()
                .chain(foreign)
                .map(Asset::new)
                .collect(),
        }
    }

    /// The page.
    pub(super) fn index(&self, request: &HttpRequest) -> HttpResponse {
        self.index.answer(request)
    }

    /// The file with this name.
    pub(super) fn file(&self, name: &str, request: &HttpRequest) -> HttpResponse {
        let found = self.files.iter().find(|file| file.name == name);
        match found.filter(|file| !file.content.is_empty()) {
            Some(file) => file.answer(request),
            None => HttpResponse::NotFound().finish(),
        }
    }
}

/// The login page. `wrong` is what it says of the last attempt: `false`, `true` or `limited`.
pub(super) fn login_page(wrong: &str) -> String {
    LOGIN.replace(WRONG, &format!("data-wrong=\"{wrong}\""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/dashboard");
        let entries = std::fs::read_dir(folder).expect("the folder");
        let names: BTreeSet<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        let served = FILES.iter().map(|(name, ..)| (*name).to_owned());
        let pages = ["index.html", "login.html"].map(str::to_owned);
        assert_eq!(names, served.chain(pages).collect());
        assert!(LOGIN.contains(WRONG));
    }
}
