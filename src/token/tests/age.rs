//! Genuine messages: which of them are tokens, and when these are valid.

use std::time::Duration;

use super::{B, DAY_MS, SIGNED_MS, T1, at, encryptor, secs, signer, verify_at, whenever};
use crate::token::{AtomForm, MaxAge, SignOptions, Term, TokenError, VerifyOptions};

/// Requirements 176, 177, 180.
#[test]
fn age_is_judged_to_the_millisecond() {
    use TokenError::{Expired, Invalid};
    let half = MaxAge::Limited(Duration::from_millis(500));
    let (day, signed) = (MaxAge::DEFAULT, SIGNED_MS);
    for (own, asked, now, refused) in [
        (day, None, signed, None),
        (day, None, signed + DAY_MS, None),
        (day, None, signed + DAY_MS + 1, Some(Expired)),
        (day, None, signed - 1, Some(Invalid)),
        (day, Some(secs(60)), signed + 60_000, None),
        (day, Some(secs(60)), signed + 60_001, Some(Expired)),
        (secs(60), Some(day), signed + DAY_MS, None),
        (secs(60), Some(MaxAge::Infinity), signed + DAY_MS, None),
        (day, Some(MaxAge::Infinity), signed - 1, None),
        (MaxAge::Infinity, None, u64::MAX / 2, None),
        (
            MaxAge::Infinity,
            Some(secs(60)),
            signed + 60_001,
            Some(Expired),
        ),
        (day, Some(secs(0)), signed, Some(Expired)),
        (secs(0), None, signed, Some(Expired)),
        (secs(0), None, signed - 1, Some(Expired)),
        (secs(0), Some(day), signed, None),
        (half, None, signed + 500, None),
        (half, None, signed + 501, Some(Expired)),
        (day, Some(half), signed + 500, None),
        (day, Some(half), signed + 501, Some(Expired)),
        (MaxAge::Limited(Duration::MAX), None, u64::MAX / 2, None),
    ] {
        let options = SignOptions {
            max_age: own,
            ..SignOptions::at(at(signed))
        };
        let expected = refused.map_or(Ok(Term::from(1)), Err);
        let case = format!("own {own:?}, asked {asked:?}, now {now}");
        let (signer, encryptor) = (signer(B, "user auth"), encryptor("user auth"));

        let token = signer.sign(1, options).expect("a small term");
        assert_eq!(
            signer.verify(Some(&token), verify_at(now, asked)),
            expected,
            "{case}"
        );
        let token = encryptor.encrypt(1, options).expect("a small term");
        assert_eq!(
            encryptor.decrypt(Some(&token), verify_at(now, asked)),
            expected,
            "{case}"
        );
    }
}

/// Requirement 175.
#[test]
fn the_older_payloads_are_read_and_good_for_a_day() {
    let signed_at = Term::from(SIGNED_MS);
    let old_phoenix = Term::Map(
        [
            (Term::atom("data"), 7.into()),
            (Term::atom("signed"), signed_at.clone()),
        ]
        .into(),
    );
    let pair = Term::Tuple(vec![7.into(), signed_at]);
    let signer = signer(B, "user auth");
    for payload in [old_phoenix, pair] {
        for atoms in [AtomForm::Utf8, AtomForm::Latin1] {
            let token = signer.sign_message(&payload.encode(atoms).expect("small"));
            let verify = |now, max_age| signer.verify(Some(&token), verify_at(now, max_age));
            assert_eq!(verify(SIGNED_MS + DAY_MS, None), Ok(7.into()));
            assert_eq!(
                verify(SIGNED_MS + DAY_MS + 1, None),
                Err(TokenError::Expired)
            );
            assert_eq!(
                verify(SIGNED_MS + DAY_MS + 1, Some(secs(86_401))),
                Ok(7.into())
            );
        }
    }
}

/// Ages that Phoenix writes and this module does not, and valid signatures around other data.
/// Requirements 176, 177.
#[test]
fn a_signed_message_is_a_token_or_invalid() {
    use TokenError::{Expired, Invalid};
    let claims = |signed_at: Term, max_age: Term| Term::Tuple(vec![1.into(), signed_at, max_age]);
    let signed = || Term::from(SIGNED_MS);
    let bad_map = |key| Term::Map([(Term::atom(key), 1.into())].into());
    for (payload, expected) in [
        (claims(signed(), 1.into()), Ok(1.into())),
        (claims(signed(), (-1).into()), Err(Expired)),
        (claims(signed(), 0.0.into()), Err(Expired)),
        (claims(signed(), (-0.5).into()), Err(Expired)),
        (claims(signed(), f64::MAX.into()), Ok(1.into())),
        (claims(signed(), Term::Integer(i128::MAX)), Ok(1.into())),
        (claims(signed(), Term::atom("forever")), Err(Invalid)),
        (claims(signed(), Term::NIL), Err(Invalid)),
        (claims(Term::NIL, 1.into()), Err(Invalid)),
        (claims(1.6e12.into(), 1.into()), Err(Invalid)),
        (claims(Term::Integer(i128::MAX), 1.into()), Err(Invalid)),
        (claims(Term::Integer(i128::MIN), 1.into()), Err(Expired)),
        (claims(Term::NIL, Term::atom("infinity")), Ok(1.into())),
        (Term::Tuple(vec![]), Err(Invalid)),
        (Term::Tuple(vec![1.into(); 4]), Err(Invalid)),
        (bad_map("data"), Err(Invalid)),
        (bad_map("signed"), Err(Invalid)),
        (1.into(), Err(Invalid)),
    ] {
        let signer = signer(B, "user auth");
        let token = signer.sign_message(&payload.encode(AtomForm::Utf8).expect("small"));
        let verified = signer.verify(Some(&token), verify_at(SIGNED_MS, None));
        assert_eq!(verified, expected, "{payload:?}");
    }
    for rubbish in [&b""[..], b"\x83", b"rubbish", b"\x83h\x03a\x01a\x01g"] {
        let signer = signer(B, "user auth");
        let token = signer.sign_message(rubbish);
        assert_eq!(signer.verify(Some(&token), whenever()), Err(Invalid));
    }
}

#[test]
fn the_clock_is_the_default() {
    let signer = signer(B, "user auth");
    let token = signer.sign(1, SignOptions::now()).expect("a small term");
    assert_eq!(
        signer.verify(Some(&token), VerifyOptions::now()),
        Ok(1.into())
    );
    assert_eq!(
        signer.verify(Some(T1), VerifyOptions::now()),
        Err(TokenError::Expired)
    );
}
