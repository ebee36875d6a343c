//! Tables of (term, bytes), for both directions and both forms of atoms.

use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};

use super::{AtomForm, EncodeError, MAX_DEPTH, MAX_SIZE, NoJsonForm, Term};

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn map<const N: usize>(entries: [(Term, Term); N]) -> Term {
    Term::Map(entries.into())
}

fn list<const N: usize>(items: [i32; N]) -> Term {
    Term::List(items.map(Term::from).to_vec())
}

/// An empty list inside `depth` lists of one element.
fn nested(depth: usize) -> Term {
    (0..depth).fold(Term::List(Vec::new()), |inner, _| Term::List(vec![inner]))
}

/// The compressed form of a term's bytes, which may declare a wrong length.
pub(super) fn compressed(body: &[u8], declared: u32) -> Vec<u8> {
    let stream = compress_to_vec_zlib(body, 9);
    [&[131, 80][..], &declared.to_be_bytes(), &stream].concat()
}

#[test]
fn terms_have_the_bytes_that_erlang_gives_them() {
    for (term, hex) in [
        (Term::from(0), "83 61 00"),
        (Term::from(255), "83 61 ff"),
        (Term::from(256), "83 62 00000100"),
        (Term::from(-1), "83 62 ffffffff"),
        (Term::from(i32::MAX), "83 62 7fffffff"),
        (Term::from(i32::MIN), "83 62 80000000"),
        (Term::from(1_i64 << 31), "83 6e 04 00 00000080"),
        (Term::from(-(1_i64 << 31) - 1), "83 6e 04 01 01000080"),
        (
            Term::from(1_600_000_000_000_i64),
            "83 6e 06 00 00806e877401",
        ),
        (Term::from(u64::MAX), "83 6e 08 00 ffffffffffffffff"),
        (Term::Integer(1 << 64), "83 6e 09 00 000000000000000001"),
        (
            Term::Integer(i128::MAX),
            "83 6e 10 00 ffffffffffffffffffffffffffffff7f",
        ),
        (
            Term::Integer(i128::MIN),
            "83 6e 10 01 00000000000000000000000000000080",
        ),
        (Term::from(3.5), "83 46 400c000000000000"),
        (Term::from(-0.0), "83 46 8000000000000000"),
        (Term::from(""), "83 6d 00000000"),
        (Term::from("é"), "83 6d 00000002 c3a9"),
        (Term::Tuple(vec![]), "83 68 00"),
        (
            Term::Tuple(vec![1.into(), "a".into()]),
            "83 68 02 61 01 6d 00000001 61",
        ),
        (Term::List(vec![]), "83 6a"),
        (list([1, 2, 3]), "83 6b 0003 010203"),
        (list([1, 256]), "83 6c 00000002 61 01 62 00000100 6a"),
        (list([-1]), "83 6c 00000001 62 ffffffff 6a"),
        (map([]), "83 74 00000000"),
        (
            map([
                ("b".into(), 2.into()),
                ("a".into(), list([7])),
                (1.into(), 0.into()),
            ]),
            "83 74 00000003 61 01 61 00 6d 00000001 61 6b 0001 07 6d 00000001 62 61 02",
        ),
    ] {
        for atoms in [AtomForm::Utf8, AtomForm::Latin1] {
            assert_eq!(term.encode(atoms), Ok(unhex(hex)), "{term:?}");
        }
        assert_eq!(Term::decode(&unhex(hex)), Some(term));
    }
}

#[test]
fn atoms_have_two_forms() {
    let long = "é".repeat(255);
    let long_utf8 = format!("83 76 01fe {}", "c3a9".repeat(255));
    let long_latin1 = format!("83 64 00ff {}", "e9".repeat(255));
    for (name, utf8, latin1) in [
        ("nil", "83 77 03 6e696c", "83 64 0003 6e696c"),
        ("", "83 77 00", "83 64 0000"),
        ("é", "83 77 02 c3a9", "83 64 0001 e9"),
        ("語", "83 77 03 e8aa9e", "83 77 03 e8aa9e"),
        (&long, &long_utf8, &long_latin1),
    ] {
        let atom = Term::atom(name.to_owned());
        assert_eq!(atom.encode(AtomForm::Utf8), Ok(unhex(utf8)));
        assert_eq!(atom.encode(AtomForm::Latin1), Ok(unhex(latin1)));
        assert_eq!(Term::decode(&unhex(utf8)), Some(atom.clone()));
        assert_eq!(Term::decode(&unhex(latin1)), Some(atom));
    }
}

#[test]
fn spellings_that_are_only_read() {
    let a64 = Term::from("a".repeat(64));
    for (hex, term) in [
        ("83 73 03 6e696c", Term::NIL),
        ("83 76 0003 6e696c", Term::NIL),
        ("83 6e 00 00", 0.into()),
        ("83 6e 01 00 05", 5.into()),
        ("83 6e 01 02 05", (-5).into()),
        ("83 6e 12 00 050000000000000000000000000000000000", 5.into()),
        ("83 6f 00000002 01 0001", (-256).into()),
        ("83 69 00000001 61 01", Term::Tuple(vec![1.into()])),
        ("83 6b 0000", Term::List(vec![])),
        ("83 6c 00000000 6a", Term::List(vec![])),
        ("83 6c 00000002 61 01 61 02 6a", list([1, 2])),
        (
            "83 74 00000002 61 02 6a 61 01 6a",
            map([(1.into(), list([])), (2.into(), list([]))]),
        ),
        // 64 times an `a`, compressed by zlib itself.
        ("83 50 00000045 789ccb6560607048a4100000423318ee", a64),
    ] {
        assert_eq!(Term::decode(&unhex(hex)), Some(term), "{hex}");
    }
}

#[test]
fn bytes_that_are_no_term_are_refused() {
    for hex in [
        "",
        "83",
        "82 61 01",
        "83 61",
        "83 61 01 00",
        "83 62 000000",
        "83 46 7ff0000000000000",
        "83 46 7ff8000000000000",
        "83 46 40",
        // Integers: too short, 2^127, -2^127 - 1, 136 bits.
        "83 6e 02 00 01",
        "83 6e 10 00 00000000000000000000000000000080",
        "83 6e 10 01 01000000000000000000000000000080",
        "83 6e 11 00 0000000000000000000000000000000001",
        "83 6f ffffffff 00 01",
        // Atoms: too short, not UTF-8.
        "83 77 04 6e696c",
        "83 77 01 ff",
        "83 64 ffff 61",
        // Lengths beyond the end.
        "83 6d ffffffff 61",
        "83 6b ffff 61",
        "83 68 ff 61 01",
        "83 69 ffffffff",
        "83 6c ffffffff",
        "83 6c ffffffff 6a 6a 6a",
        "83 74 ffffffff 6a 6a",
        // An improper list, a list without an end, the same key twice.
        "83 6c 00000001 61 01 61 02",
        "83 6c 00000001 61 01 6b",
        "83 6c 00000001 61 01",
        "83 74 00000002 61 01 6a 61 01 6a",
        // A pid, a bitstring, a float as text, a second version byte, a reserved tag.
        "83 67 64 0001 61 00000000 00000000 00",
        "83 4d 00000001 01 80",
        "83 63 312e30000000000000000000000000000000000000000000000000000000000000",
        "83 83 61 01",
        "83 00",
        // Compressed: nothing, not zlib, truncated, compressed twice.
        "83 50",
        "83 50 00000002 6101",
        "83 50 00000045 789ccb6560607048a410",
        "83 50 00000006 5000000002",
    ] {
        assert_eq!(Term::decode(&unhex(hex)), None, "{hex}");
    }
    let long_atom = [&[131, 100, 1, 0][..], &[b'a'; 256]].concat();
    assert_eq!(Term::decode(&long_atom), None);
}

#[test]
fn a_compressed_term_inflates_to_its_declared_length_and_no_further() {
    let size = MAX_SIZE as u32;
    let body = |zeros: u32| [&[b'm'][..], &zeros.to_be_bytes(), &vec![0; zeros as usize]].concat();
    for (zeros, declared, good) in [
        (1000, 1005, true),
        (1000, 1004, false),
        (1000, 1006, false),
        (size - 5, size, true),
        (size - 4, size + 1, false),
        (50_000_000, size, false),
        (50_000_000, 50_000_005, false),
        (50_000_000, u32::MAX, false),
    ] {
        let term = Term::decode(&compressed(&body(zeros), declared));
        assert_eq!(term.is_some(), good, "{zeros} zeros as {declared} bytes");
    }
}

#[test]
fn a_term_that_erlang_lacks_or_that_is_too_large_is_not_written() {
    let zeros = |len: usize| Term::Binary(vec![0; len]);
    for (term, error) in [
        (f64::NAN.into(), EncodeError::NotFinite),
        (
            Term::Tuple(vec![f64::NEG_INFINITY.into()]),
            EncodeError::NotFinite,
        ),
        (Term::atom("x".repeat(256)), EncodeError::AtomTooLong),
        (zeros(MAX_SIZE - 5), EncodeError::TooLarge),
        (
            Term::List(vec![zeros(MAX_SIZE / 2), zeros(MAX_SIZE / 2)]),
            EncodeError::TooLarge,
        ),
        (
            Term::List(vec![Term::NIL; MAX_SIZE + 1]),
            EncodeError::TooLarge,
        ),
        (nested(MAX_DEPTH + 1), EncodeError::TooDeep),
        (nested(1000), EncodeError::TooDeep),
    ] {
        assert_eq!(term.encode(AtomForm::default()), Err(error));
    }
}

#[test]
fn what_reaches_a_bound_is_written_and_read() {
    let bytes = |len: usize| Term::List(vec![7.into(); len]);
    for (term, size) in [
        (Term::Binary(vec![0; MAX_SIZE - 6]), MAX_SIZE),
        (nested(MAX_DEPTH), 1 + MAX_DEPTH * 6 + 1),
        (Term::Tuple(vec![Term::NIL; 256]), 1 + 5 + 256 * 5),
        (bytes(65_535), 1 + 3 + 65_535),
        (bytes(65_536), 1 + 5 + 65_536 * 2 + 1),
    ] {
        let encoded = term.encode(AtomForm::Utf8).expect("within the bounds");
        assert_eq!(encoded.len(), size);
        assert_eq!(Term::decode(&encoded), Some(term));
    }
    let too_deep = [&[131][..], &[b'h', 1].repeat(MAX_DEPTH + 1), b"j"].concat();
    assert_eq!(Term::decode(&too_deep), None);
    let too_large = [&[131, b'm', 0, 4, 0, 0][..], &vec![0; MAX_SIZE]].concat();
    assert_eq!(Term::decode(&too_large), None);
}

/// The token's own tuple adds one level.
#[test]
fn all_json_that_serde_json_reads_fits_a_token() {
    let deepest = (1..)
        .map(|depth| "[".repeat(depth) + &"]".repeat(depth))
        .map_while(|text| serde_json::from_str::<Value>(&text).ok())
        .last()
        .expect("a list of nothing is JSON");
    let claims = Term::Tuple(vec![deepest.into()]);
    let encoded = claims.encode(AtomForm::Utf8).expect("not too deep");
    assert_eq!(Term::decode(&encoded), Some(claims));
}

#[test]
fn the_order_of_terms_is_that_of_map_keys_in_erlang() {
    let ascending = [
        Term::from(-1),
        Term::from(2),
        Term::from(-1.5),
        Term::from(1.0),
        Term::atom("a"),
        Term::atom("b"),
        Term::Tuple(vec![9.into()]),
        Term::Tuple(vec![1.into(), 1.into()]),
        Term::Tuple(vec![1.into(), 2.into()]),
        map([("z".into(), 9.into())]),
        map([("a".into(), 2.into()), ("b".into(), 1.into())]),
        map([("a".into(), 1.into()), ("c".into(), 1.into())]),
        Term::List(vec![]),
        list([1]),
        list([1, 2]),
        list([2]),
        Term::from(""),
        Term::from("a"),
        Term::from("aa"),
        Term::from("b"),
    ];
    for (i, a) in ascending.iter().enumerate() {
        for (j, b) in ascending.iter().enumerate() {
            assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} {b:?}");
        }
    }
}

#[test]
fn json_becomes_terms_and_back() {
    for (value, term) in [
        (json!(null), Term::NIL),
        (json!(true), Term::atom("true")),
        (json!(false), false.into()),
        (json!(-7), (-7).into()),
        (json!(u64::MAX), u64::MAX.into()),
        (json!(1.0), 1.0.into()),
        (json!("ok"), "ok".into()),
        (json!([1, "a"]), Term::List(vec![1.into(), "a".into()])),
        (json!([1, 2, 3]), list([1, 2, 3])),
        (json!({"id": 7}), map([("id".into(), 7.into())])),
    ] {
        assert_eq!(Term::from(value.clone()), term);
        assert_eq!(Value::try_from(term), Ok(value));
    }
}

#[test]
fn terms_beyond_json_become_it_as_phoenix_would_encode_them_or_not_at_all() {
    for (term, value) in [
        (Term::atom("admin"), Ok(json!("admin"))),
        (map([(Term::atom("id"), 7.into())]), Ok(json!({"id": 7}))),
        (map([(7.into(), Term::NIL)]), Ok(json!({"7": null}))),
        (Term::Tuple(vec![]), Err(NoJsonForm)),
        (Term::List(vec![Term::Tuple(vec![])]), Err(NoJsonForm)),
        (Term::Binary(vec![0xff]), Err(NoJsonForm)),
        (Term::Integer(1 << 64), Err(NoJsonForm)),
        (f64::NAN.into(), Err(NoJsonForm)),
        (map([(1.5.into(), Term::NIL)]), Err(NoJsonForm)),
        (
            map([(Term::atom("a"), 1.into()), ("a".into(), 2.into())]),
            Err(NoJsonForm),
        ),
    ] {
        assert_eq!(Value::try_from(term.clone()), value, "{term:?}");
    }
}
