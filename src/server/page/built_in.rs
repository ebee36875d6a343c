//! The chat page, or a folder of files in its place.
//!
//! The page uses the published phoenix.js. If npm had installed it before the build, `build.rs` embeds it.
//! Otherwise it comes from `assets/node_modules` below the working directory, or from a CDN, by an import map
//! with its integrity hash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Bytes, ServiceConfig};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha384};

use super::static_folder;
use crate::server::methods::{self, readable};

const INDEX: &str = include_str!("../../../assets/index.html");
const APP_JS: &str = include_str!("../../../assets/app.js");
const APP_CSS: &str = include_str!("../../../assets/app.css");
const FAVICON: &str = include_str!("../../../assets/favicon.svg");
/// phoenix.js; empty if the build found none.
pub(crate) static EMBEDDED_PHOENIX: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/phoenix.mjs"));
/// Where `npm ci --prefix assets` puts it.
const INSTALLED_PHOENIX: &str = "assets/node_modules/phoenix/priv/static/phoenix.mjs";
const LOCAL_IMPORTS: &str = r#"{"imports":{"phoenix":"/assets/phoenix.mjs"}}"#;
const CDN_IMPORTS: &str = include_str!("../../../assets/importmap.cdn.json");
/// The placeholder of the import map in the page.
const IMPORT_MAP: &str = "{{IMPORTMAP}}";
const JS: &str = "text/javascript; charset=utf-8";

/// The frontend cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// `--static-dir` is not a readable folder.
    #[error("static folder {0} is not a folder that can be read")]
    NoFolder(PathBuf),
}

/// Routes the built-in page and its assets, or the files of `static_dir`.
///
/// # Errors
/// If `static_dir` is not a readable folder.
pub fn page(
    static_dir: Option<&Path>,
) -> Result<impl FnOnce(&mut ServiceConfig) + Clone + use<>, PageError> {
    let folder: Option<Arc<Path>> = static_dir.map(Arc::from);
    if let Some(folder) = &folder
        && std::fs::read_dir(folder).is_err()
    {
        return Err(PageError::NoFolder(folder.to_path_buf()));
    }
    let built_in = BuiltIn::load();
    Ok(move |config: &mut ServiceConfig| {
        let scope = web::scope("").wrap(
            DefaultHeaders::new()
                .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .add((header::REFERRER_POLICY, "same-origin")),
        );
        config.service(scope.configure(|config| match folder {
            Some(folder) => folder_routes(&folder, config),
            None => built_in.routes(config),
        }));
    })
}

/// Serves the folder at every path that no other route answers.
fn folder_routes(folder: &Arc<Path>, config: &mut ServiceConfig) {
    let folder = Arc::clone(folder);
    let file = methods::get().to(move |req| static_folder::serve(Arc::clone(&folder), req));
    let other = web::to(|method: Method| async move { methods::other(&method) });
    config.service(
        web::resource("/{path:.*}")
            .route(file)
            .default_service(other),
    );
}

/// The built-in page, with its import map.
#[derive(Clone)]
struct BuiltIn {
    index: Bytes,
    policy: String,
    /// phoenix.js; `None` if browsers take it from the CDN.
    phoenix: Option<Bytes>,
}

/// The parts of `importmap.cdn.json` that the server reads.
#[derive(Deserialize)]
struct ImportMap {
    imports: Imports,
    integrity: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Imports {
    phoenix: String,
}

impl BuiltIn {
    fn load() -> Self {
        let cdn: ImportMap =
            serde_json::from_str(CDN_IMPORTS).expect("assets/importmap.cdn.json is an import map");
        let phoenix = phoenix(&cdn);
        let (imports, source) = match phoenix {
            Some(_) => (LOCAL_IMPORTS, String::new()),
            None => (CDN_IMPORTS.trim(), format!("{} ", cdn.imports.phoenix)),
        };
        let hash = BASE64_STANDARD.encode(Sha256::digest(imports));
        let policy = format!(
            "default-src 'none'; script-src 'self' {source}'sha256-{hash}'; style-src 'self'; \
             img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'self'"
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
        let page = move || {
            let response = HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .insert_header((header::CACHE_CONTROL, "no-cache"))
                .insert_header((header::CONTENT_SECURITY_POLICY, policy.as_str()))
                .body(index.clone());
            async { response }
        };
        let asset = |path: &str, content_type: &'static str, content: Bytes| {
            readable(path, move || {
                let response = HttpResponse::Ok()
                    .content_type(content_type)
                    .insert_header((header::CACHE_CONTROL, "no-cache"))
                    .body(content.clone());
                async { response }
            })
        };
        let embedded = |text: &'static str| Bytes::from_static(text.as_bytes());
        let css = "text/css; charset=utf-8";
        config
            .service(readable("/", page))
            .service(asset("/assets/app.js", JS, embedded(APP_JS)))
            .service(asset("/assets/app.css", css, embedded(APP_CSS)))
            .service(asset(
                "/assets/favicon.svg",
                "image/svg+xml",
                embedded(FAVICON),
            ));
        if let Some(phoenix) = phoenix {
            config.service(asset("/assets/phoenix.mjs", JS, phoenix));
        }
    }
}

/// phoenix.js, if the server has the same file as the CDN.
fn phoenix(cdn: &ImportMap) -> Option<Bytes> {
    if !EMBEDDED_PHOENIX.is_empty() {
        return Some(Bytes::from_static(EMBEDDED_PHOENIX));
    }
    let installed = std::fs::read(INSTALLED_PHOENIX).ok()?;
    let hash = format!(
        "sha384-{}",
        BASE64_STANDARD.encode(Sha384::digest(&installed))
    );
    if cdn.integrity.get(&cdn.imports.phoenix) == Some(&hash) {
        return Some(installed.into());
    }
    tracing::warn!(
        file = INSTALLED_PHOENIX,
        "chat.page.phoenix_js: another version than the page is made for; pages take it from the CDN"
    );
    None
}
