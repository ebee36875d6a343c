//! UPGRADING.md promises that the last version runs on the tables of this one.

use std::fs;
use std::path::Path;

/// It widens the columns of an Ecto application's table, which no version of the server had before it.
const BEFORE_THE_FIRST_VERSION: [&str; 1] = ["postgresql/2026-11-22-000001_create_messages"];

/// SQL in capitals, with one space between words and without comments.
fn normalized(sql: &str) -> String {
    let lines = sql.lines();
    let code = lines.map(|line| line.split("--").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join(" ").to_uppercase();
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The parts of a migration that the version before it may not survive.
fn refused(sql: &str) -> Vec<&'static str> {
    let sql = normalized(sql);
    let has = |statement: &str, word: &str| {
        let mut words = statement.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|found| found == word)
    };
    let mut refused = Vec::new();
    for statement in sql.split(';') {
        let is_change = has(statement, "ALTER");
        let added = statement.split("ADD COLUMN ").skip(1);
        let mut rules = added.map(|column| column.contains("NOT NULL") && !has(column, "DEFAULT"));
        for (name, is_there) in [
            ("DROP", has(statement, "DROP")),
            ("RENAME", has(statement, "RENAME")),
            ("TYPE", is_change && has(statement, "TYPE")),
            ("SET NOT NULL", statement.contains("SET NOT NULL")),
            ("ADD CONSTRAINT", statement.contains("ADD CONSTRAINT")),
            ("NOT NULL without DEFAULT", rules.any(|is_broken| is_broken)),
        ] {
            if is_there {
                refused.push(name);
            }
        }
    }
    refused
}

#[test]
fn migrations_only_add() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut broken = Vec::new();
    for database in ["postgresql", "sqlite"] {
        for entry in fs::read_dir(root.join(database)).expect("the folder can be read") {
            let folder = entry.expect("the folder can be read").path();
            let Ok(sql) = fs::read_to_string(folder.join("up.sql")) else {
                continue;
            };
            let name = folder.strip_prefix(&root).expect("found below the root");
            let name = name.display().to_string();
            let refused = refused(&sql);
            if BEFORE_THE_FIRST_VERSION.contains(&&*name) {
                assert!(!refused.is_empty(), "{name} needs no exception");
            } else if !refused.is_empty() {
                broken.push(format!("{name}: {refused:?}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "the version before cannot run on these tables: {broken:#?}"
    );
}

#[test]
fn what_an_old_version_does_not_survive_is_refused() {
    for (sql, expected) in [
        ("drop table messages;", "DROP"),
        ("ALTER TABLE messages\n    DROP COLUMN name;", "DROP"),
        ("ALTER TABLE a RENAME TO b;", "RENAME"),
        ("ALTER TABLE a RENAME COLUMN b TO c;", "RENAME"),
        ("ALTER TABLE a ALTER COLUMN b SET DATA TYPE TEXT;", "TYPE"),
        (
            "ALTER TABLE a ALTER COLUMN b SET\nNOT NULL;",
            "SET NOT NULL",
        ),
        (
            "ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0);",
            "ADD CONSTRAINT",
        ),
        (
            "ALTER TABLE a ADD COLUMN b TEXT NOT NULL, ADD COLUMN c TEXT DEFAULT '';",
            "NOT NULL without DEFAULT",
        ),
    ] {
        assert_eq!(refused(sql), [expected], "{sql}");
    }
    for sql in [
        "-- DROP and RENAME in words.\nCREATE TABLE a (type TEXT NOT NULL);",
        "ALTER TABLE a ADD COLUMN b TEXT;",
        "ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT '';",
        "CREATE INDEX dropped ON a (b);",
    ] {
        assert!(refused(sql).is_empty(), "{sql}");
    }
}
