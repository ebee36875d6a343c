//! Embeds phoenix.js and uPlot in the binary, if `npm ci --prefix assets` has installed them. The repository has no
//! copy of the files; the published crate has one. Names the commit of the sources, for `slackir --version` and
//! the metrics.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha384};

/// The files that npm has installed: with their package and the name under which the program finds them.
const PHOENIX: (&str, &str, &str) = (
    "phoenix",
    "assets/node_modules/phoenix/priv/static/phoenix.mjs",
    "phoenix.mjs",
);
/// With the hashes that they must have.
const UPLOT: [((&str, &str, &str), &str); 2] = [
    (
        (
            "uplot",
            "assets/node_modules/uplot/dist/uPlot.esm.js",
            "uplot.mjs",
        ),
        "sha384-iUdBlEO5qc07+gOz+3rq/Besyud+KVIxM+xJEuUBObxLG3C/Dlkz8OYuPUcPrCGP",
    ),
    (
        (
            "uplot",
            "assets/node_modules/uplot/dist/uPlot.min.css",
            "uplot.css",
        ),
        "sha384-IfV0B7MIOYuO95kO9G5ySKPz/85zqFNOAs8iy4tkK5zd9izhJAB8b7lHrwYqqmYE",
    ),
];
/// npm's record of them.
const INSTALLED: &str = "assets/node_modules/.package-lock.json";
/// The packages that npm must install, and the hash of phoenix.js.
const WANTED: &str = "assets/package-lock.json";
const CDN_IMPORTS: &str = "assets/importmap.cdn.json";
/// Cargo's note about the commit, in a crate of the registry.
const VCS_INFO: &str = ".cargo_vcs_info.json";
/// The environment's note about it, for sources without either: in the build of an image.
const COMMIT: &str = "SLACKIR_COMMIT";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // The folder, because a missing file would cause a rebuild each time.
    println!("cargo::rerun-if-changed=assets");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    println!("cargo::rustc-env={COMMIT}={}", commit());
    embed(PHOENIX, |hash| {
        let imports = read(CDN_IMPORTS)?;
        let known = imports["integrity"].as_object().into_iter().flatten();
        if known
            .map(|(_, integrity)| integrity)
            .any(|known| known == hash)
        {
            return Ok(());
        }
        Err(format!("its hash {hash} is not the one in {CDN_IMPORTS}").into())
    })?;
    for (file, known) in UPLOT {
        embed(file, |hash| {
            if hash == known {
                return Ok(());
            }
            Err(format!("its hash {hash} is not the one in build.rs").into())
        })?;
    }
    Ok(())
}

/// The commit of these sources, or `unknown`.
fn commit() -> String {
    let of_git = || {
        // Without this a crate in a folder of another repository would get the commit of that one.
        fs::exists(".git").ok().filter(|exists| *exists)?;
        // A debug build names the commit of its first build: each commit would compile everything again.
        if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
            watch_git();
        }
        git(&["rev-parse", "HEAD"])
    };
    let of_crate = || {
        let info = read(VCS_INFO).ok()?;
        info.pointer("/git/sha1")?.as_str().map(str::to_owned)
    };
    let of_environment = || env::var(COMMIT).ok().filter(|commit| !commit.is_empty());
    let commit = of_git().or_else(of_crate).or_else(of_environment);
    commit.unwrap_or_else(|| "unknown".to_owned())
}

/// Builds again once another commit is checked out or made.
fn watch_git() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    // A branch may have no file of its own. Then its commit is in `packed-refs`, and the log of HEAD shows the next one.
    let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter();
    for name in names.chain(branch.as_deref()) {
        // In a worktree these files are in different folders.
        let file = git(&["rev-parse", "--git-path", name]);
        // A missing file would cause a rebuild each time.
        if let Some(file) = file.filter(|file| Path::new(file).exists()) {
            println!("cargo::rerun-if-changed={file}");
        }
    }
}

/// The line that git prints; `None` if it fails, or is not installed.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| line.trim().to_owned())
}

/// Copies a file to where the program includes it: an empty one if npm has not installed it.
fn embed(
    (package, path, name): (&str, &str, &str),
    check_hash: impl FnOnce(&str) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let content = match fs::read(path) {
        Ok(bytes) => {
            let hash = format!("sha384-{}", BASE64_STANDARD.encode(Sha384::digest(&bytes)));
            check_package(package)
                .and_then(|()| check_hash(&hash))
                .map_err(|problem| {
                    format!(
                        "{path}: {problem}; run npm ci --prefix assets, or remove assets/node_modules"
                    )
                })?;
            bytes
        }
        // An empty file means that there is none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{path}: {error}").into()),
    };
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(PathBuf::from(out_dir).join(name), content)?;
    Ok(())
}

/// Fails unless npm has installed the package that [`WANTED`] names.
fn check_package(name: &str) -> Result<(), Box<dyn Error>> {
    let package = format!("/packages/node_modules~1{name}/integrity");
    let (installed, wanted) = (read(INSTALLED)?, read(WANTED)?);
    let (installed, wanted) = (installed.pointer(&package), wanted.pointer(&package));
    if wanted.is_none() || installed != wanted {
        return Err(format!("{INSTALLED} and {WANTED} name different packages").into());
    }
    Ok(())
}

fn read(path: impl AsRef<Path>) -> Result<Value, Box<dyn Error>> {
    let path = path.as_ref();
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}
