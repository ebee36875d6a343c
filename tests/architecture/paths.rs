//! The paths that ARCHITECTURE.md and CONTRIBUTING.md name.

use std::path::Path;

/// The folders that the pages name files of.
const FOLDERS: [&str; 11] = [
    ".github/",
    "assets/",
    "benches/",
    "deploy/",
    "docs/",
    "examples/",
    "migrations/",
    "proptest-regressions/",
    "scripts/",
    "src/",
    "tests/",
];

/// The words of a page that are paths of the package. A name in capitals is to be filled in.
fn paths(page: &str) -> impl Iterator<Item = &str> {
    let words = page.split(|c: char| c.is_whitespace() || "`*()|,;:<>\"".contains(c));
    let paths = words.filter(|word| {
        let is_file = word.contains('/') && word.ends_with(".rs") && !word.contains("//");
        is_file || FOLDERS.iter().any(|folder| word.starts_with(folder))
    });
    let paths = paths.map(|path| {
        path.trim_end_matches('.')
            .split('#')
            .next()
            .unwrap_or_default()
    });
    paths.filter(|path| {
        !["NAME", "DATE", ".."]
            .iter()
            .any(|part| path.contains(part))
    })
}

/// Whether the package has the path. ARCHITECTURE.md leaves `src/` out.
fn exists(path: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(path).exists() || root.join("src").join(path).exists()
}

#[test]
fn a_named_path_exists() {
    for (name, page) in [
        ("ARCHITECTURE.md", include_str!("../../ARCHITECTURE.md")),
        ("CONTRIBUTING.md", include_str!("../../CONTRIBUTING.md")),
    ] {
        let missing: Vec<_> = paths(page).filter(|path| !exists(path)).collect();
        assert!(missing.is_empty(), "{name} names {missing:?}");
    }
}
