//! Refused tokens: damaged, for other secrets and purposes, with short secrets.

use std::num::NonZeroU16;

use proptest::prelude::*;

use super::{A128GCM, B, B2, T1, XCP, encryptor, secret, signer, whenever};
use crate::token::{Encryptor, KeyOptions, SecretKeyBase, TokenError};

/// Requirement 176.
#[test]
fn what_is_no_signed_token_is_invalid() {
    let (start, signature) = T1.rsplit_once('.').expect("three parts");
    for token in [
        "",
        ".",
        "..",
        "...",
        "SFMyNTY",
        "SFMyNTY..",
        "garbage",
        "é.é.é",
        start,
        &format!("{T1}x"),
        &T1[1..],
        &format!("{T1}.x"),
        &format!("x.{T1}"),
        &format!("{T1} "),
        &format!("{start}=.{signature}"),
        &format!("{start}.{}", &signature[..42]),
        &format!("{start}.{}", &signature[..40]),
        &format!("{start}.{}", &signature[..4]),
        &format!("{start}."),
        &T1.replacen("SFMyNTY", "SFMyNTU", 1),
        &T1.replacen("SFMyNTY", "", 1),
        &T1.replace('-', "+"),
        XCP,
        A128GCM,
    ] {
        let verified = signer(B, "user auth").verify(Some(token), whenever());
        assert_eq!(verified, Err(TokenError::Invalid), "{token}");
    }
    for (base, salt) in [(B, "other"), (B, ""), (B, "user auth "), (B2, "user auth")] {
        let verified = signer(base, salt).verify(Some(T1), whenever());
        assert_eq!(verified, Err(TokenError::Invalid));
    }
    let missing = signer(B, "user auth").verify(None, whenever());
    assert_eq!(missing, Err(TokenError::Missing));
}

#[test]
fn what_is_no_encrypted_token_is_invalid() {
    let cut = |len: usize| &XCP[..XCP.len() - len];
    for token in [
        "",
        "garbage",
        "XCP",
        "XCP.",
        "XCP.!",
        "XCP.AAAA",
        "QTEyOEdDTQ",
        "QTEyOEdDTQ.",
        "QTEyOEdDTQ....",
        &format!("{A128GCM}."),
        &format!("x{XCP}"),
        &format!("{XCP}AAAA"),
        &XCP.replace("XCP", "xcp"),
        cut(1),
        cut(4),
        cut(40),
        T1,
    ] {
        let decrypted = encryptor("user auth").decrypt(Some(token), whenever());
        assert_eq!(decrypted, Err(TokenError::Invalid), "{token}");
    }
    for token in [XCP, A128GCM] {
        let decrypted = encryptor("other").decrypt(Some(token), whenever());
        assert_eq!(decrypted, Err(TokenError::Invalid));
    }
    let missing = encryptor("user auth").decrypt(None, whenever());
    assert_eq!(missing, Err(TokenError::Missing));
}

/// Flips each bit of each character of a token.
#[test]
fn a_token_with_one_changed_character_is_invalid() {
    let (signer, encryptor) = (signer(B, "user auth"), encryptor("user auth"));
    for at in 0..T1.len().max(XCP.len()).max(A128GCM.len()) {
        for bit in 0..7 {
            let changed = |token: &str| {
                let mut bytes = token.as_bytes().to_vec();
                *bytes.get_mut(at)? ^= 1 << bit;
                Some(String::from_utf8(bytes).expect("still ASCII"))
            };
            let refused = Err(TokenError::Invalid);
            if let Some(token) = changed(T1) {
                assert_eq!(signer.verify(Some(&token), whenever()), refused, "{token}");
            }
            for token in [XCP, A128GCM].into_iter().filter_map(changed) {
                assert_eq!(
                    encryptor.decrypt(Some(&token), whenever()),
                    refused,
                    "{token}"
                );
            }
        }
    }
}

/// Requirement 179.
#[test]
fn short_secrets_and_wrong_key_lengths_are_refused() {
    for (secret, message) in [
        (
            "",
            Some("a secret key base of 0 bytes is too short: at least 20 are needed"),
        ),
        (
            &B[..19],
            Some("a secret key base of 19 bytes is too short: at least 20 are needed"),
        ),
        (&B[..20], None),
    ] {
        let error = SecretKeyBase::new(secret)
            .err()
            .map(|error| error.to_string());
        assert_eq!(error.as_deref(), message);
    }
    for length in [16, 31, 33, 64] {
        let options = KeyOptions {
            length: NonZeroU16::new(length).expect("not zero"),
            ..KeyOptions::default()
        };
        let error = Encryptor::new(&secret(B), "user auth", options).expect_err("not 32 bytes");
        let text = format!("an encryption key has 32 bytes, not {length}");
        assert_eq!(error.to_string(), text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_verification_panic(text in ".*", parts in "[A-Za-z0-9_=-]{0,9}(\\.[A-Za-z0-9_=-]{0,90}){0,5}") {
        let (signer, encryptor) = (signer(B, "user auth"), encryptor("user auth"));
        for token in [text.clone(), format!("SFMyNTY.{text}"), parts.clone(), format!("SFM1MTI.{parts}")] {
            prop_assert_eq!(signer.verify(Some(&token), whenever()), Err(TokenError::Invalid));
        }
        for token in [text.clone(), format!("XCP.{parts}"), format!("QTEyOEdDTQ.{parts}")] {
            prop_assert_eq!(encryptor.decrypt(Some(&token), whenever()), Err(TokenError::Invalid));
        }
    }
}
