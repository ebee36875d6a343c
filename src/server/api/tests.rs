//! The routes and the OpenAPI document name the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

#[test]
fn the_document_lists_what_is_served_and_nothing_else() {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let listed: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let members = item.as_object().expect("a path item").keys();
            let methods = members.filter(|name| *name != "parameters");
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<_> = table()
        .into_iter()
        .flat_map(|(path, methods)| {
            let methods = methods.into_iter();
            methods.map(move |(method, _)| format!("{method} {ROOT}{path}"))
        })
        .collect();
    assert_eq!(listed, served);
}
