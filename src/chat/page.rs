//! The chat page, or the folder that takes its place.
//!
//! The page runs on phoenix.js as published. Where `assets/node_modules/phoenix` is installed
//! beside the running server it comes from there, else from a CDN, by an import map with its
//! integrity hash. No copy of it lies in this project.

use std::path::{Path, PathBuf};

use actix_files::Files;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, Bytes, ServiceConfig};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const INDEX: &str = include_str!("../../assets/index.html");
const APP_JS: &str = include_str!("../../assets/app.js");
const APP_CSS: &str = include_str!("../../assets/app.css");
const FAVICON: &str = include_str!("../../assets/favicon.svg");
/// Where `npm install` puts phoenix.js.
const INSTALLED_PHOENIX: &str = "assets/node_modules/phoenix/priv/static/phoenix.mjs";
const LOCAL_IMPORTS: &str = r#"{"imports":{"phoenix":"/assets/phoenix.mjs"}}"#;
const CDN_IMPORTS: &str = include_str!("../../assets/importmap.cdn.json");
const CDN: &str = "https://cdn.jsdelivr.net";
/// Where the import map stands in the page.
const IMPORT_MAP: &str = "{{IMPORTMAP}}";

/// The frontend cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// `--static-dir` names no folder.
    #[error("static folder {0} is not a folder that can be read")]
    NoFolder(PathBuf),
}

/// Routes `/` and what it needs: the built-in page, or the files of `static_dir`.
///
/// # Errors
/// When `static_dir` is no folder.
pub fn page(
    static_dir: Option<&Path>,
) -> Result<impl FnOnce(&mut ServiceConfig) + Clone + use<>, PageError> {
    let folder = static_dir.map(Path::to_owned);
    if let Some(folder) = &folder
        && std::fs::read_dir(folder).is_err()
    {
        return Err(PageError::NoFolder(folder.clone()));
    }
    let built_in = BuiltIn::load();
    Ok(move |config: &mut ServiceConfig| match folder {
        Some(folder) => {
            config.service(Files::new("/", folder).index_file("index.html"));
        }
        None => built_in.routes(config),
    })
}

/// The page with its import map filled in.
#[derive(Clone)]
struct BuiltIn {
    index: Bytes,
    policy: String,
    /// phoenix.js, if it is installed.
    phoenix: Option<Bytes>,
}

impl BuiltIn {
    fn load() -> Self {
        let phoenix = std::fs::read(INSTALLED_PHOENIX).ok().map(Bytes::from);
        let imports = if phoenix.is_some() {
            LOCAL_IMPORTS
        } else {
            CDN_IMPORTS.trim()
        };
        let hash = BASE64_STANDARD.encode(Sha256::digest(imports));
        let policy = format!(
            "default-src 'self'; script-src 'self' {CDN} 'sha256-{hash}'; connect-src 'self' ws: wss:; \
             base-uri 'none'; frame-ancestors 'self'"
        );
        Self {
            index: INDEX.replace(IMPORT_MAP, imports).into(),
            policy,
            phoenix,
        }
    }

    fn routes(self, config: &mut ServiceConfig) {
        let Self {
            index,
            policy,
            phoenix,
        } = self;
        let file = |content_type: &'static str, content: Bytes| {
            web::get().to(move || {
                let response = HttpResponse::Ok()
                    .content_type(content_type)
                    .insert_header((header::CACHE_CONTROL, "no-cache"))
                    .body(content.clone());
                async { response }
            })
        };
        let page = web::get().to(move || {
            let response = HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .insert_header((header::CACHE_CONTROL, "no-cache"))
                .insert_header((header::CONTENT_SECURITY_POLICY, policy.as_str()))
                .body(index.clone());
            async { response }
        });
        let embedded = |text: &'static str| Bytes::from_static(text.as_bytes());
        const JS: &str = "text/javascript; charset=utf-8";
        config
            .route("/", page)
            .route("/assets/app.js", file(JS, embedded(APP_JS)))
            .route(
                "/assets/app.css",
                file("text/css; charset=utf-8", embedded(APP_CSS)),
            )
            .route(
                "/assets/favicon.svg",
                file("image/svg+xml", embedded(FAVICON)),
            );
        if let Some(phoenix) = phoenix {
            config.route("/assets/phoenix.mjs", file(JS, phoenix));
        }
    }
}
