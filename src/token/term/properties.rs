//! Properties that hold for any term, any JSON and any bytes.

use proptest::prelude::*;
use serde_json::Value;

use super::tests::compressed;
use super::{AtomForm, Term};

fn any_term() -> impl Strategy<Value = Term> {
    let leaf = prop_oneof![
        any::<i128>().prop_map(Term::Integer),
        any::<i32>().prop_map(Term::from),
        any::<u8>().prop_map(|byte| Term::Integer(byte.into())),
        any::<f64>().prop_filter_map("finite", |f| f.is_finite().then_some(Term::Float(f))),
        ".{0,20}".prop_map(Term::atom),
        any::<Vec<u8>>().prop_map(Term::Binary),
        any::<Vec<u8>>()
            .prop_map(|b| Term::List(b.into_iter().map(|b| i32::from(b).into()).collect())),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        let items = proptest::collection::vec(inner.clone(), 0..8);
        prop_oneof![
            items.clone().prop_map(Term::Tuple),
            items.prop_map(Term::List),
            proptest::collection::btree_map(inner.clone(), inner, 0..8).prop_map(Term::Map),
        ]
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |f| f.is_finite().then(|| Value::from(f))),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::hash_map(".{0,5}", inner, 0..8)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_term_is_read_as_it_was_written(term in any_term(), old in any::<bool>()) {
        let atoms = if old { AtomForm::Latin1 } else { AtomForm::Utf8 };
        let encoded = term.encode(atoms).expect("small, shallow and finite");
        let decoded = Term::decode(&encoded).expect("what was written can be read");
        prop_assert_eq!(&decoded, &term);
        prop_assert_eq!(decoded.encode(atoms), Ok(encoded.clone()));
        let declared = encoded.len() as u32 - 1;
        prop_assert_eq!(Term::decode(&compressed(&encoded[1..], declared)), Some(term));
    }

    #[test]
    fn any_json_survives_a_token(value in any_json()) {
        let encoded = Term::from(value.clone()).encode(AtomForm::Utf8).expect("small and shallow");
        let decoded = Term::decode(&encoded).expect("what was written can be read");
        prop_assert_eq!(Value::try_from(decoded), Ok(value));
    }

    #[test]
    fn decoding_never_panics(bytes in any::<Vec<u8>>(), size in any::<u32>()) {
        Term::decode(&bytes);
        Term::decode(&[&[131], &*bytes].concat());
        Term::decode(&compressed(&bytes, size));
    }

    #[test]
    fn decoding_a_damaged_term_never_panics(
        term in any_term(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = term.encode(AtomForm::Utf8).expect("small, shallow and finite");
        prop_assert_eq!(Term::decode(&bytes[..cut.index(bytes.len())]), None);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(decoded) = Term::decode(&bytes) {
            prop_assert!(decoded.encode(AtomForm::Utf8).is_ok());
        }
    }
}
