//! Keeps the import table of ARCHITECTURE.md true, and files readable.

mod log_lines;
mod migrations;
mod names;
mod paths;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use table::{MAY_USE, WINGS};

/// A file longer than this is a stop.
const MAX_LINES: usize = 600;

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The files of a folder of the package, with the module that they belong to.
fn files(folder: &str) -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths = Vec::new();
    rust_files(&root, &mut paths);
    assert!(!paths.is_empty(), "{folder} holds Rust files");
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(&root).expect("found below the root");
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        // The rooms of these wings have rows of their own.
        let depth = if WINGS.contains(&&*parts[0]) { 2 } else { 1 };
        let module = parts[..depth].join("/");
        let module = module.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("source is UTF-8");
        (module, path, text)
    };
    paths.into_iter().map(read).collect()
}

/// Source without comments, so that prose may name anything.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// The source above its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("mod tests {").next().unwrap_or_default()
}

/// The modules that a file names by `crate::`.
fn imports(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    let name = |rest: &str| {
        let wing = word(rest);
        let room = rest[wing.len()..].strip_prefix("::").map(word);
        let room = room.filter(|room| room.starts_with(|c: char| c.is_lowercase()));
        Some(match room {
            Some(room) if WINGS.contains(&&*wing) => format!("{wing}/{room}"),
            _ => wing,
        })
    };
    // `pub(in crate::store)` says who may use an item.
    let code = code(without_tests(text)).map(|line| line.replace("in crate::", ""));
    let code = code.collect::<Vec<_>>().join("\n");
    let paths = code.split("crate::").skip(1);
    let mut modules: BTreeSet<String> = paths.filter_map(name).collect();
    let grouped = text
        .split("use crate::{")
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    modules.extend(
        grouped
            .flat_map(|group| group.split(','))
            .filter_map(|part| name(part.trim())),
    );
    modules.remove("");
    modules
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut broken = Vec::new();
    for (module, path, text) in files("src") {
        if [
            "lib",
            "main",
            "server/mod",
            "server/run",
            "server/program",
            "store/mod",
        ]
        .contains(&&*module)
        {
            continue;
        }
        let row = MAY_USE.iter().find(|(name, _)| *name == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{module} is not in the table"));
        for used in imports(&text) {
            if used != module && !allowed.contains(&&*used) {
                broken.push(format!("{}: {module} may not use {used}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A way through the table from `module` back to one of `path`.
fn circle<'a>(module: &'a str, path: &mut Vec<&'a str>) -> Option<Vec<&'a str>> {
    if let Some(at) = path.iter().position(|&before| before == module) {
        return Some(path[at..].to_vec());
    }
    let (_, used) = MAY_USE.iter().find(|(name, _)| *name == module)?;
    path.push(module);
    let found = used.iter().find_map(|next| circle(next, path));
    path.pop();
    found
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    for (module, _) in MAY_USE {
        assert_eq!(circle(module, &mut Vec::new()), None);
    }
}

#[test]
fn the_table_allows_nothing_that_is_not_used() {
    for (module, allowed) in MAY_USE {
        let texts = files("src").into_iter().filter(|(name, ..)| name == module);
        let used: BTreeSet<String> = texts.flat_map(|(.., text)| imports(&text)).collect();
        for name in *allowed {
            assert!(
                used.contains(*name),
                "{module} no longer uses {name}: take it off the table"
            );
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_bear() {
    for folder in ["src", "tests", "examples"] {
        for (_, path, text) in files(folder) {
            let lines = text.lines().count();
            assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
        }
    }
}
