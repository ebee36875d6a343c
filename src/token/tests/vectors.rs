//! Tables of tokens that plug_crypto makes or reads, for both directions.

use std::num::{NonZeroU16, NonZeroU32};

use serde_json::{Value, json};

use super::{
    A128GCM, B, B2, DAY_MS, SIGNED_MS, T1, XCP, at, encryptor, secret, secs, signer, verify_at,
    whenever,
};
use crate::token::{
    AtomForm, KeyDigest, KeyOptions, MaxAge, SignOptions, Signer, Term, TokenError, claims,
};

/// Secret, salt, data, `signed_at` in milliseconds, `max_age`, form of atoms, token.
type Vector = (
    &'static str,
    &'static str,
    Value,
    u64,
    MaxAge,
    AtomForm,
    &'static str,
);

/// Tokens made by plug_crypto 2.1.1, on Erlang/OTP 25 or 26.
#[rustfmt::skip]
fn vectors() -> [Vector; 9] {
    use AtomForm::{Latin1, Utf8};
    use MaxAge::Infinity;
    let day = MaxAge::DEFAULT;
    [
        (B, "user auth", json!(1), SIGNED_MS, day, Utf8, T1),
        (B, "user auth", json!("user-42"), SIGNED_MS, day, Utf8,
         "SFMyNTY.g2gDbQAAAAd1c2VyLTQybgYAAIBuh3QBYgABUYA.IrXNAt4NJJrKQgNqmFlRSUITl_alS_OO2nEBAAU1fIg"),
        (B2, "user socket", json!({"role": "admin", "id": 7}), 1_700_000_000_000, secs(1_209_600), Utf8,
         "SFMyNTY.g2gDdAAAAAJtAAAAAmlkYQdtAAAABHJvbGVtAAAABWFkbWlubgYAAGjlz4sBYgASdQA.sSKvGYjgLlBRfa0v_4BlZOOdCrGezCwUInpB_gBzTZE"),
        (B, "user auth", json!(null), SIGNED_MS, day, Latin1,
         "SFMyNTY.g2gDZAADbmlsbgYAAIBuh3QBYgABUYA.-pFdnOKbVwso0PnvjloYOzbjE4ESgZ3nC1RrSkfF6iE"),
        (B, "user auth", json!(null), SIGNED_MS, day, Utf8,
         "SFMyNTY.g2gDdwNuaWxuBgAAgG6HdAFiAAFRgA.x3s9uGwG6F1C_7zy9Mp3bmdZMZZmJbSKAYeGkv7_ZhQ"),
        (B, "user auth", json!(1), SIGNED_MS, Infinity, Latin1,
         "SFMyNTY.g2gDYQFuBgAAgG6HdAFkAAhpbmZpbml0eQ.c3wd29453gztxRz2zxOsWwPfHpIFGifBc4FwCPcJWE0"),
        (B, "user auth", json!(1), SIGNED_MS, Infinity, Utf8,
         "SFMyNTY.g2gDYQFuBgAAgG6HdAF3CGluZmluaXR5.BSKA3HP6OaFhlm-nVOHO2-RxxHcqdwzY2MAzPf9nSV8"),
        (B2, "salt é", json!([1, 2, 3]), 1_700_000_000_500, secs(60), Utf8,
         "SFMyNTY.g2gDawADAQIDbgYA9Gnlz4sBYTw.hNCo7ygCoo8FpJx47UsGPAImQeqBa0kxcktWMq0dqjA"),
        (B2, "s", json!([1, "a", -5, 3.5, 1_099_511_627_776_u64, true]), 1_700_000_000_000, secs(60), Latin1,
         "SFMyNTY.g2gDbAAAAAZhAW0AAAABYWL____7RkAMAAAAAAAAbgYAAAAAAAABZAAEdHJ1ZWpuBgAAaOXPiwFhPA.9QdG6Ru792GJsS5cOlCKz6EKS6sXbmym7uMVBTS-_5g"),
    ]
}

/// Requirements 174, 175.
#[test]
fn tokens_are_phoenixs_byte_for_byte() {
    for (secret, salt, data, signed_at, max_age, atoms, token) in vectors() {
        let options = SignOptions {
            signed_at: at(signed_at),
            max_age,
            atoms,
        };
        let signer = signer(secret, salt);
        assert_eq!(signer.sign(data.clone(), options).as_deref(), Ok(token));

        let verified = signer.verify(Some(token), whenever());
        assert_eq!(verified, Ok(Term::from(data.clone())));
        assert_eq!(verified.map(Value::try_from), Ok(Ok(data)));

        let years_later = signer.verify(Some(token), verify_at(1_800_000_000_000, None));
        let expired = years_later == Err(TokenError::Expired);
        assert_eq!(expired, max_age != MaxAge::Infinity, "{token}");
    }
}

/// Requirement 174.
#[test]
fn key_options_change_the_key_and_nothing_else() {
    let options = KeyOptions {
        iterations: NonZeroU32::new(2000).expect("not zero"),
        length: NonZeroU16::new(64).expect("not zero"),
        digest: KeyDigest::Sha512,
    };
    let signer = Signer::new(&secret(B), "user auth", options);
    let token = "SFMyNTY.g2gDYQFuBgAAgG6HdAFiAAFRgA.mwUCesT4xklb-FeLsT0yJQ7Tzc3zrHgoaX_yM2NB9Js";
    assert_eq!(
        signer.sign(1, SignOptions::at(at(SIGNED_MS))).as_deref(),
        Ok(token)
    );
    assert_eq!(signer.verify(Some(token), whenever()), Ok(1.into()));
    assert_eq!(
        signer.verify(Some(T1), whenever()),
        Err(TokenError::Invalid)
    );
}

/// Two keys derived by plug_crypto. The one for SHA-384 was derived in Python.
#[test]
fn keys_are_derived_as_plug_crypto_does() {
    let sha384 = KeyOptions {
        digest: KeyDigest::Sha384,
        ..KeyOptions::default()
    };
    for (base, salt, options, key) in [
        (
            B,
            "user auth",
            KeyOptions::default(),
            "71e6bb9087444023e8313bbb80bf25945ba411c024f266b2954f9ca21db07a01",
        ),
        (
            B2,
            "user socket",
            KeyOptions::default(),
            "d3f12b5b79f2122342c5c52cb5d451bb588e5c5af0a7c73cf6a90cc45b397d80",
        ),
        (
            B,
            "user auth",
            sha384,
            "3d7169331c1ceb346936d48658d74c2dc8fdcc1062a27205f1b5e7841be5fb88",
        ),
    ] {
        let derived = secret(base).derive(salt.as_bytes(), options);
        let hex: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, key);
    }
}

/// A token that plug_crypto verifies with SHA-512, and one like it with SHA-384, made in Python.
/// Requirement 175.
#[test]
fn the_header_names_the_digest_of_the_signature() {
    for token in [
        "SFM1MTI.g2gDYQluBgAAgG6HdAFiAAFRgA.KDWjFzcm8mm_P_Es2-sthjdNeAwd1jWma8FkfQ8nY5BIormU8Qd3Uk\
         CvsmCj0yw_O9wmKVoNJcAU5nBBGka25g",
        "SFMzODQ.g2gDYQluBgAAgG6HdAFiAAFRgA.gajAeKCHBRedoVKAzzgsrAHKLLktx2U0sGSFkvHL6CTp8Q8wCP8Pwz\
         ad91pYxHze",
    ] {
        let signer = signer(B, "user auth");
        assert_eq!(signer.verify(Some(token), whenever()), Ok(9.into()));
        let other_header = format!("SFMyNTY{}", &token[7..]);
        let refused = signer.verify(Some(&other_header), whenever());
        assert_eq!(refused, Err(TokenError::Invalid));
    }
}

#[test]
fn a_signature_may_be_padded() {
    let padded = format!("{T1}=");
    let verified = signer(B, "user auth").verify(Some(&padded), whenever());
    assert_eq!(verified, Ok(1.into()));
}

/// Requirement 181.
#[test]
fn encrypted_tokens_are_phoenixs_byte_for_byte() {
    let encryptor = encryptor("user auth");
    let claims = claims::pack("secret data".into(), SignOptions::at(at(SIGNED_MS)));
    let nonce: [u8; 24] = std::array::from_fn(|i| i as u8);
    let token = encryptor.encrypt_message(&claims.expect("a small term"), &nonce.into());
    assert_eq!(token, XCP);
    for token in [XCP, A128GCM] {
        let decrypted = encryptor.decrypt(Some(token), whenever());
        assert_eq!(decrypted, Ok("secret data".into()));
        let too_late = encryptor.decrypt(Some(token), verify_at(SIGNED_MS + DAY_MS + 1, None));
        assert_eq!(too_late, Err(TokenError::Expired));
    }
}

#[test]
fn a_nonce_serves_once() {
    let encryptor = encryptor("user auth");
    let encrypt = || encryptor.encrypt(1, SignOptions::at(at(SIGNED_MS)));
    assert_ne!(encrypt(), encrypt());
}
