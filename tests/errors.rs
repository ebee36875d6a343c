//! docs/ERRORS.md names each reason of an error reply and each close code of the code, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The text of a file of the repository.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of the text between two others.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(begin)
        .unwrap_or_else(|| panic!("{begin:?} is missing"));
    rest.split_once(end).map_or(rest, |(part, _)| part)
}

/// The first cells of the tables in a section of docs/ERRORS.md, without the heads.
fn first_cells(section: &str) -> BTreeSet<String> {
    let page = read("docs/ERRORS.md");
    let section = between(&page, &format!("\n## {section}\n"), "\n## ").to_owned();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.map(|row| {
        row.split(" |")
            .next()
            .unwrap_or_default()
            .trim_matches('`')
            .to_owned()
    });
    cells
        .filter(|cell| !cell.starts_with("---"))
        .skip(1)
        .collect()
}

#[test]
fn the_page_names_each_reason_of_an_error_reply() {
    let source = read("src/message.rs");
    let reasons = between(&source, "pub mod reason {", "\n}");
    let texts = reasons
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const "));
    let texts: BTreeSet<String> = texts
        .map(|line| between(line, "\"", "\"").to_owned())
        .collect();
    assert!(
        texts.len() > 10,
        "the constants are written in another way: {texts:?}"
    );
    assert_eq!(first_cells("Error replies"), texts);
}

#[test]
fn the_page_names_each_close_code() {
    let source = read("src/transport/ending.rs");
    let table = between(&source, "fn close_code(", "\n}");
    let codes = table.lines().filter_map(|line| line.split_once("=> "));
    let codes: BTreeSet<String> = codes
        .map(|(_, code)| code.trim_end_matches(',').to_owned())
        .collect();
    assert!(
        codes.len() > 5,
        "the table is written in another way: {codes:?}"
    );
    assert_eq!(first_cells("Close codes"), codes);
}

#[test]
fn the_page_has_the_texts_of_close_frames() {
    let (source, page) = (read("src/transport/ending.rs"), read("docs/ERRORS.md"));
    for text in between(&source, "let text = match reason {", "};")
        .lines()
        .filter(|line| line.contains('"'))
    {
        let text = between(text, "\"", "\"");
        assert!(
            text.is_empty() || page.contains(&format!("reason `{text}`")),
            "{text}"
        );
    }
}
