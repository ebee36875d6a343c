//! Puts phoenix.js into the program, where `npm ci --prefix assets` has installed it. The repository
//! holds no copy; the published crate carries the file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha384};

/// What npm has installed, and what it says about it.
const PHOENIX: &str = "assets/node_modules/phoenix/priv/static/phoenix.mjs";
const INSTALLED: &str = "assets/node_modules/.package-lock.json";
/// What is wanted: the package, and in it the file that pages take from a CDN otherwise.
const WANTED: &str = "assets/package-lock.json";
const CDN_IMPORTS: &str = "assets/importmap.cdn.json";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // The folder, as a file that is not there would have everything built again each time.
    println!("cargo::rerun-if-changed=assets");
    let phoenix = match fs::read(PHOENIX) {
        Ok(bytes) => {
            check(&bytes).map_err(|problem| {
                format!("{PHOENIX}: {problem}; run npm ci --prefix assets, or remove assets/node_modules")
            })?;
            bytes
        }
        // An empty file stands for none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{PHOENIX}: {error}").into()),
    };
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(PathBuf::from(out_dir).join("phoenix.mjs"), phoenix)?;
    Ok(())
}

/// Whether the file is the wanted one, of the wanted package.
fn check(bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let package = "/packages/node_modules~1phoenix/integrity";
    let (installed, wanted) = (read(INSTALLED)?, read(WANTED)?);
    let (installed, wanted) = (installed.pointer(package), wanted.pointer(package));
    if wanted.is_none() || installed != wanted {
        return Err(format!("{INSTALLED} and {WANTED} name different packages").into());
    }
    let hash = format!("sha384-{}", BASE64_STANDARD.encode(Sha384::digest(bytes)));
    let imports = read(CDN_IMPORTS)?;
    let known = imports["integrity"].as_object().into_iter().flatten();
    if !known
        .map(|(_, integrity)| integrity)
        .any(|integrity| *integrity == *hash)
    {
        return Err(format!("its hash {hash} is not the one in {CDN_IMPORTS}").into());
    }
    Ok(())
}

fn read(path: impl AsRef<Path>) -> Result<Value, Box<dyn Error>> {
    let path = path.as_ref();
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}
