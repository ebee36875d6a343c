//! Embeds phoenix.js in the binary, if `npm ci --prefix assets` has installed it. The repository has no copy of
//! the file; the published crate has one.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha384};

/// The file that npm has installed, and npm's record of it.
const PHOENIX: &str = "assets/node_modules/phoenix/priv/static/phoenix.mjs";
const INSTALLED: &str = "assets/node_modules/.package-lock.json";
/// The package that npm must install, and the hash of the file in it.
const WANTED: &str = "assets/package-lock.json";
const CDN_IMPORTS: &str = "assets/importmap.cdn.json";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // The folder, because a missing file would cause a rebuild each time.
    println!("cargo::rerun-if-changed=assets");
    let phoenix = match fs::read(PHOENIX) {
        Ok(bytes) => {
            check(&bytes).map_err(|problem| {
                format!("{PHOENIX}: {problem}; run npm ci --prefix assets, or remove assets/node_modules")
            })?;
            bytes
        }
        // An empty file means that there is none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{PHOENIX}: {error}").into()),
    };
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(PathBuf::from(out_dir).join("phoenix.mjs"), phoenix)?;
    Ok(())
}

/// Fails unless the file has the hash in [`CDN_IMPORTS`], and its package is that of [`WANTED`].
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
