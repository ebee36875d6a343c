//! Keeps the numbers of ARCHITECTURE.md's table of bounds those of the code.

mod library;
mod server;

use std::fs;
use std::path::Path;

/// For each row, its numbers: as the table writes them, and where the code has them, by file and by what
/// stands before the value.
pub(crate) type Row = (
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
);

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The table's rows: what is bounded, and by how much.
fn table(text: &str) -> Vec<(&str, &str)> {
    let section = text.split("\n## Bounds\n").nth(1).expect("a section");
    let section = section.split("\n## ").next().expect("its text");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cells = rows.skip(1).map(|row| {
        let mut cells = row.split(" | ");
        let name = cells.next().expect("a name").trim_start_matches("| ");
        (name, cells.next().expect("a bound"))
    });
    cells.filter(|(name, _)| !name.starts_with("---")).collect()
}

/// What a number of the table means: bytes, milliseconds, or a count. kB may be 1,024 bytes each.
fn meant(number: &str) -> Vec<u64> {
    let (digits, unit) = number.split_once(' ').unwrap_or((number, ""));
    let count: u64 = digits.replace(',', "").parse().expect("a number");
    let factors: &[u64] = match unit {
        "" => &[1],
        "kB" => &[1_000, 1_024],
        "MB" => &[1_000_000],
        "GB" => &[1_000_000_000],
        "ms" => &[1],
        "s" => &[1_000],
        "million" => &[1_000_000],
        "minutes" => &[60_000],
        other => panic!("{other} is no unit"),
    };
    factors.iter().map(|factor| count * factor).collect()
}

/// The value behind `place`; of a setting, its default.
fn value(source: &str, place: &str) -> Option<u64> {
    const DEFAULTS: [&str; 2] = ["default_value_t = ", "default_value = \""];
    let at = source.find(place)?;
    let expression = if place.starts_with("pub ") {
        let before = &source[..at];
        let found = DEFAULTS.iter().filter_map(|name| {
            let at = before.rfind(name)?;
            Some(at + name.len())
        });
        &source[found.max()?..]
    } else {
        &source[at + place.len()..]
    };
    let expression = expression.split([';', '\n']).next()?;
    let expression = expression.split(", value").next()?;
    let unit = if expression.contains("from_secs") {
        1_000
    } else {
        1
    };
    let numbers = expression.split(|c: char| !c.is_ascii_digit() && c != '_');
    let numbers = numbers.filter_map(|digits| digits.replace('_', "").parse::<u64>().ok());
    numbers
        .reduce(|product, number| product * number)
        .map(|number| number * unit)
}

#[test]
fn the_table_of_bounds_has_the_numbers_of_the_code() {
    let text = read("ARCHITECTURE.md");
    let table = table(&text);
    let rows = || library::ROWS.iter().chain(server::ROWS);
    for (name, _) in &table {
        assert!(
            rows().any(|(row, _)| row == name),
            "{name:?} is not compared with the code"
        );
    }
    for (name, numbers) in rows() {
        let row = table.iter().find(|(row, _)| row == name);
        let (_, bound) = row.unwrap_or_else(|| panic!("the table has no row {name:?}"));
        for (number, file, place) in *numbers {
            assert!(
                bound.contains(number),
                "{name}: {bound:?} should say {number}"
            );
            let found = value(&read(file), place);
            let found = found.unwrap_or_else(|| panic!("{file} has no {place:?}"));
            assert!(
                meant(number).contains(&found),
                "{name}: the table says {number}, {file} says {found}"
            );
        }
    }
}
