//! The TOML types of settings.

use super::*;

#[test]
fn a_list_of_the_file_is_a_list_or_a_string_with_commas() {
    for file in [
        "acme = [\"a.example\", \"b.example\"]",
        "acme = \"a.example,b.example\"",
    ] {
        assert_eq!(serve(file, &[]).tls.acme, ["a.example", "b.example"]);
        let flag = serve(file, &["--acme", "c.example"]);
        assert_eq!(flag.tls.acme, ["c.example"]);
    }
}

#[test]
fn a_value_of_another_type_is_told_in_one_line() {
    for (file, wanted) in [
        (
            "acme = 1",
            "line 1: acme: must be a list of strings, not an integer",
        ),
        (
            "acme = [1]",
            "acme: must be a list of strings, and of nothing else",
        ),
        ("acme = []", "acme: the list is empty: remove the line"),
        ("port = [1]", "port: must be a number, not an array"),
        ("host = 4", "host: must be a string, not an integer"),
        ("host = [\"a\"]", "host: must be a string, not an array"),
    ] {
        let error = load(file, &[]).expect_err(file).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
