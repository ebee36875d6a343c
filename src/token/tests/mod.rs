//! Shared parts of the tests of tokens: secrets, tokens and times.

mod age;
mod refusal;
mod vectors;

use std::time::{Duration, SystemTime};

use super::{Encryptor, KeyOptions, MaxAge, SecretKeyBase, Signer, VerifyOptions};

const B: &str = "kjoy3o1zeidquwy1398juxzldjlksahdk3";
const B2: &str = "abcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefgh";

/// `1` for "user auth", signed at [`SIGNED_MS`] and valid for one day.
const T1: &str = "SFMyNTY.g2gDYQFuBgAAgG6HdAFiAAFRgA.0JFcDG6UcNDG-5NqIgD5Bg8ynFQ0lKxmYYElCdWkdRo";
const SIGNED_MS: u64 = 1_600_000_000_000;
const DAY_MS: u64 = 86_400_000;

/// `"secret data"` for "user auth", encrypted with the nonce 00 01 .. 17.
const XCP: &str = "XCP.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXBp6L5QbzVHV4g6OgTSp8VbRfvoFTMHxlPZhNsbzzCGJBsj4jo1\
     B2A9JcTzv0MPhogQ";

/// The same, encrypted as plug_crypto 1 does.
const A128GCM: &str = "QTEyOEdDTQ.xJ8Rhiv7MoFAxBsFLnqpP53TEE295t5JLapPn-GIY18gISIjJCUmJygpKis.MDEyMzQ1Njc4OTo7.\
     GHVKh0KwCufD2Yj_tZvi3WXlWKN8tybdd8tAt10kM9-N.RDZFo2Q0DJj_HLRxOocA_A";

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

fn verify_at(millis: u64, max_age: Option<MaxAge>) -> VerifyOptions {
    VerifyOptions {
        max_age,
        ..VerifyOptions::at(at(millis))
    }
}

fn whenever() -> VerifyOptions {
    verify_at(0, Some(MaxAge::Infinity))
}

fn secs(secs: u64) -> MaxAge {
    Duration::from_secs(secs).into()
}

fn secret(text: &str) -> SecretKeyBase {
    SecretKeyBase::new(text).expect("long enough")
}

fn signer(secret_key_base: &str, salt: &str) -> Signer {
    Signer::new(&secret(secret_key_base), salt, KeyOptions::default())
}

fn encryptor(salt: &str) -> Encryptor {
    Encryptor::new(&secret(B), salt, KeyOptions::default()).expect("32 bytes")
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!("{:?} {:?} {:?}", secret(B), signer(B, ""), encryptor(""));
    assert_eq!(
        printed,
        "SecretKeyBase { .. } Signer { .. } Encryptor { .. }"
    );
}
