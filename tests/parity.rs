//! Holds docs/PHOENIX_PARITY.md and the tests together: each row of its tables names the tests that show
//! the requirement, and each of those tests names the requirement. The head of that page says how.
//!
//! A test is known by what the table calls it: `module::name` for Rust, `file.json "name"` for a recorded
//! scenario, `file_js "title"` for the npm clients, and the file alone where "all of" it is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// How many requirements there are.
const REQUIREMENTS: u16 = 188;

/// What a row may say of a requirement; behind the last two must follow why.
const STATES: [&str; 4] = ["kept", "better", "partly", "not kept"];

/// Rows in these states need no test: there is nothing to show, or nobody outside could show it.
const WITHOUT_TEST: [&str; 3] = ["not kept", "kept by the type", "kept by the crate"];

/// The rows that have to say "no test" of a part of theirs. The list can only become shorter.
const PARTLY_UNTESTED: [u16; 1] = [182];

/// One row of the tables.
struct Row {
    number: u16,
    state: String,
    /// What stands in its last column, as it stands there.
    shown_by: String,
}

impl Row {
    fn state(&self) -> &'static str {
        let mut known = STATES.into_iter();
        let found = known.find(|state| self.state.starts_with(state));
        found.unwrap_or_else(|| panic!("row {}: what is {:?}?", self.number, self.state))
    }

    fn needs_test(&self) -> bool {
        let mut free = WITHOUT_TEST.into_iter();
        !free.any(|state| self.state.starts_with(state))
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page() -> String {
    read("docs/PHOENIX_PARITY.md")
}

fn rows() -> Vec<Row> {
    let page = page();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let number = cells[0].strip_prefix("| ")?.parse().ok()?;
        let [_, _, state, shown_by] = cells[..] else {
            panic!("row {number} should have four columns");
        };
        Some(Row {
            number,
            state: state.to_owned(),
            shown_by: shown_by.trim_end_matches(" |").to_owned(),
        })
    };
    page.lines().filter_map(row).collect()
}

/// The tests that a piece of the page names. What stands in brackets is prose.
fn names(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut file = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['(', '`', '"', ' ']) {
        let (word, behind) = rest.split_at(at);
        let closing = match behind.as_bytes()[0] {
            b'(' => ")",
            b'`' => "`",
            b'"' => "\"",
            _ => "",
        };
        if is_file(word) {
            file = word.to_owned();
        }
        let end = 1 + behind[1..].find(closing).expect("what is opened is closed");
        let inside = &behind[1..end];
        match closing {
            "`" if inside.contains("::") => drop(found.insert(inside.to_owned())),
            "\"" if !file.is_empty() => drop(found.insert(format!("{file} \"{inside}\""))),
            _ => {}
        }
        rest = &behind[end + closing.len()..];
    }
    let words: Vec<&str> = text.split([' ', ',', ';']).collect();
    let whole = words.windows(3).filter(|words| words[..2] == ["all", "of"]);
    found.extend(whole.map(|words| words[2].to_owned()));
    found
}

fn is_file(word: &str) -> bool {
    word.ends_with(".json") || word.ends_with("_js")
}

/// All tests, each with the requirements that it names.
type Tests = BTreeMap<String, BTreeSet<u16>>;

fn tests() -> Tests {
    let mut tests = Tests::new();
    for (path, text) in files("src", "rs").chain(files("tests/integration", "rs")) {
        rust_tests(&module(&path), &text, &mut tests);
    }
    for (path, text) in files("tests/fixtures/conformance", "json") {
        scenarios(&path, &text, &mut tests);
    }
    for (path, text) in files("tests/js", "test.mjs") {
        let stem = path.trim_end_matches(".test.mjs").trim_end_matches("_js");
        js_tests(&format!("{stem}_js"), &text, &mut tests);
    }
    tests
}

/// The files of a folder whose name ends so, by their path in it.
fn files(folder: &str, ending: &str) -> impl Iterator<Item = (String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut folders = vec![root.clone()];
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        if folder.ends_with("node_modules") {
            continue;
        }
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(&format!(".{ending}")) {
                paths.push(path);
            }
        }
    }
    assert!(!paths.is_empty(), "{folder} holds {ending} files");
    paths.into_iter().map(move |path| {
        let inside = path.strip_prefix(&root).expect("found below the root");
        (inside.to_string_lossy().into_owned(), read(&path))
    })
}

/// The module that a Rust file holds.
fn module(path: &str) -> String {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.replace('/', "::")
}

/// Notes a test and the requirements in the line above it.
fn note(tests: &mut Tests, name: &str, marked: BTreeSet<u16>) {
    let other = tests.insert(name.to_owned(), marked);
    assert!(other.is_none(), "two tests are called {name}");
}

/// The requirements that a comment names: `Requirement 1.`, `Requirements 1, 2.`
fn marked(line: &str) -> Option<BTreeSet<u16>> {
    let comment = line.trim_start().trim_start_matches('/').trim_start();
    let list = comment.strip_prefix("Requirement")?;
    let list = list.strip_prefix('s').unwrap_or(list).strip_prefix(' ')?;
    let numbers = list.strip_suffix('.')?.split(", ");
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    Some(numbers.map(number).collect())
}

/// Rust tests: a mark stands between the prose and the attribute. Formatting makes the ends of inline
/// modules known by their indentation.
fn rust_tests(module: &str, text: &str, tests: &mut Tests) {
    let made: BTreeSet<&str> = lists(text)
        .flat_map(str::split_whitespace)
        .map(|name| name.trim_end_matches(','))
        .collect();
    let text = lists(text).fold(text.to_owned(), |text, list| text.replace(list, ""));
    let mut inline: Vec<(usize, &str)> = Vec::new();
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let opened = code
            .strip_prefix("mod ")
            .and_then(|name| name.strip_suffix(" {"));
        let function = code.split_once("fn ").map(|(_, name)| {
            let end = name.find(['(', '<']).unwrap_or(name.len());
            &name[..end]
        });
        let test = function.filter(|name| is_test || made.contains(name));
        if let Some(numbers) = marked(line) {
            found = numbers;
        } else if code.starts_with("#[") {
            is_test |= code.ends_with("test]") || code.contains("::test(");
        } else if let Some(name) = opened {
            inline.push((indent, name));
        } else if code == "}" && inline.last().is_some_and(|(at, _)| *at == indent) {
            inline.pop();
        } else if let Some(name) = test {
            let inside = inline.iter().map(|(_, name)| *name);
            let path: Vec<&str> = [module].into_iter().chain(inside).chain([name]).collect();
            note(tests, &path.join("::"), std::mem::take(&mut found));
            is_test = false;
        } else {
            assert!(
                found.is_empty(),
                "{module}: {found:?} do not stand above a test"
            );
        }
    }
}

/// The macros that make several tests of one function: over both transports, over both WebSocket
/// drivers, on each database.
const MAKERS: [&str; 3] = [
    "over_both_transports! {",
    "over_both_drivers! {",
    "on_each_database! {",
];

/// The lists of a file's functions that a macro makes tests of. The table names such a test without
/// its transport, driver or database, and its mark stands directly above it.
fn lists(text: &str) -> impl Iterator<Item = &str> {
    MAKERS.iter().flat_map(|maker| {
        let behind = text.split(maker).skip(1);
        behind.filter_map(|list| list.split_once("\n}").map(|(list, _)| list))
    })
}

/// Recorded scenarios: a mark is the member "requirements", also of the whole file.
fn scenarios(path: &str, text: &str, tests: &mut Tests) {
    let file: Value = serde_json::from_str(text).expect("a fixture is JSON");
    let numbers = |value: &Value| {
        let numbers = value["requirements"].as_array().into_iter().flatten();
        let number = |n: &Value| {
            n.as_u64()
                .and_then(|n| n.try_into().ok())
                .expect("a number")
        };
        numbers.map(number).collect()
    };
    note(tests, path, numbers(&file));
    for scenario in file["scenarios"]
        .as_array()
        .expect("a fixture has scenarios")
    {
        let name = scenario["name"].as_str().expect("a scenario has a name");
        note(tests, &format!("{path} \"{name}\""), numbers(scenario));
    }
}

/// Tests of the npm clients: a mark stands above the call that has the title, or is the file's first line.
fn js_tests(file: &str, text: &str, tests: &mut Tests) {
    let mut found = BTreeSet::new();
    note(
        tests,
        file,
        text.lines().next().and_then(marked).unwrap_or_default(),
    );
    for line in text.lines().skip(1) {
        let call = line.trim_start().split_once("(\"");
        let call = call.filter(|(word, _)| word.chars().all(char::is_alphanumeric));
        if let Some(numbers) = marked(line) {
            found = numbers;
        } else if let Some((title, _)) = call.and_then(|(_, title)| title.split_once("\", ")) {
            note(
                tests,
                &format!("{file} \"{title}\""),
                std::mem::take(&mut found),
            );
        } else {
            assert!(
                found.is_empty(),
                "{file}: {found:?} do not stand above a test"
            );
        }
    }
}

#[test]
fn every_requirement_has_one_row() {
    let numbers: Vec<u16> = rows().iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=REQUIREMENTS).collect::<Vec<_>>());
}

#[test]
fn the_states_are_counted_and_what_is_missing_is_explained() {
    let rows = rows();
    for row in &rows {
        let explained = row.state.len() > row.state().len();
        let complete = ["kept", "better"].contains(&row.state());
        assert!(complete || explained, "row {} should say why", row.number);
    }
    let count = |state| rows.iter().filter(|row| row.state() == state).count();
    let [kept, better, partly, not] = STATES.map(count);
    let counts =
        format!("{kept} of them are kept, {better} better, {partly} partly kept and {not} not.");
    assert!(page().contains(&counts), "the page should say: {counts}");
}

#[test]
fn every_requirement_is_shown_by_a_test() {
    let mut untested = Vec::new();
    for row in rows().iter().filter(|row| row.needs_test()) {
        if row.shown_by.contains("no test") {
            untested.push(row.number);
        } else {
            assert!(
                !names(&row.shown_by).is_empty(),
                "row {} names no test",
                row.number
            );
        }
    }
    assert_eq!(untested, PARTLY_UNTESTED, "the rows that say \"no test\"");
}

#[test]
fn rows_and_tests_name_each_other() {
    let tests = tests();
    let mut named: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for row in rows() {
        for name in names(&row.shown_by) {
            named.entry(name).or_default().insert(row.number);
        }
    }
    let mut broken = Vec::new();
    for name in named.keys().filter(|name| !tests.contains_key(*name)) {
        broken.push(format!(
            "{name} is named by {:?} and does not exist",
            named[name]
        ));
    }
    for (name, marked) in &tests {
        let none = BTreeSet::new();
        let rows = named.get(name).unwrap_or(&none);
        for number in rows.difference(marked) {
            broken.push(format!(
                "row {number} names {name}, which does not name {number}"
            ));
        }
        for number in marked.difference(rows) {
            broken.push(format!(
                "{name} names {number}, and row {number} does not name it"
            ));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn what_has_no_number_is_shown_by_tests_too() {
    let page = page();
    let (_, differences) = page
        .split_once("## Differences without a number")
        .expect("the page has that part");
    let tests = tests();
    for name in names(&differences.replace(['(', ')'], " ")) {
        assert!(tests.contains_key(&name), "{name} does not exist");
    }
}
