//! Tokens that other libraries have made.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::*;

/// `tests/fixtures/jwt/tokens.json`
#[derive(Deserialize)]
struct Fixture {
    secret: String,
    now: u64,
    tokens: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    by: String,
    algorithms: Vec<JwtAlgorithm>,
    key: String,
    #[serde(default)]
    issuer: Vec<String>,
    #[serde(default)]
    audience: Vec<String>,
    #[serde(default = "yes")]
    require_exp: bool,
    expect: String,
    token: String,
}

fn yes() -> bool {
    true
}

fn fixture() -> Fixture {
    let text = include_str!("../../../tests/fixtures/jwt/tokens.json");
    serde_json::from_str(text).expect("a fixture")
}

const JWKS: &str = include_str!("../../../tests/fixtures/jwt/jwks.json");
const RSA: &str = include_str!("../../../tests/fixtures/jwt/rsa.pem");
const P256: &str = include_str!("../../../tests/fixtures/jwt/p256.pem");
const P384: &str = include_str!("../../../tests/fixtures/jwt/p384.pem");
const ED25519: &str = include_str!("../../../tests/fixtures/jwt/ed25519.pem");

fn keys(name: &str, secret: &str) -> JwtKeys {
    let pem = |text| JwtKeys::Configured(vec![JwtKey::pem(text).expect("a key")]);
    match name {
        "secret" => JwtKeys::Configured(vec![JwtKey::secret(secret.as_bytes()).expect("long")]),
        "jwks.json" => JwtKeys::Set(Arc::new(JwkSet::parse(JWKS.as_bytes()).expect("a set"))),
        "rsa.pem" => pem(RSA),
        "p256.pem" => pem(P256),
        "p384.pem" => pem(P384),
        "ed25519.pem" => pem(ED25519),
        other => panic!("{other}"),
    }
}

fn policy(algorithms: &[JwtAlgorithm]) -> JwtPolicy {
    JwtPolicy {
        algorithms: algorithms.to_vec(),
        issuers: Vec::new(),
        audiences: Vec::new(),
        leeway: Duration::from_secs(30),
        require_exp: true,
    }
}

#[test]
fn tokens_of_other_libraries_are_accepted_and_refused_as_expected() {
    let fixture = fixture();
    let now = UNIX_EPOCH + Duration::from_secs(fixture.now);
    for vector in &fixture.tokens {
        let policy = JwtPolicy {
            issuers: vector.issuer.clone(),
            audiences: vector.audience.clone(),
            require_exp: vector.require_exp,
            ..policy(&vector.algorithms)
        };
        let keys = keys(&vector.key, &fixture.secret);
        let result = verify(&vector.token, &policy, &keys, now);
        let found = match &result {
            Ok(verified) => {
                assert_eq!(verified.claims["sub"], "u1", "{}", vector.name);
                assert_eq!(verified.claims["name"], "Ada", "{}", vector.name);
                "ok".to_owned()
            }
            Err(refused) => refused.to_string(),
        };
        assert_eq!(found, vector.expect, "{} by {}", vector.name, vector.by);
    }
    assert!(fixture.tokens.len() > 60);
}

/// No key of another kind verifies a signature, whatever the configuration allows.
#[test]
fn a_key_is_tried_with_algorithms_of_its_kind_alone() {
    let fixture = fixture();
    let now = UNIX_EPOCH + Duration::from_secs(fixture.now);
    let all: Vec<_> = fixture
        .tokens
        .iter()
        .flat_map(|vector| vector.algorithms.clone())
        .collect();
    let right = fixture.tokens.iter().filter(|vector| vector.expect == "ok");
    for vector in right.filter(|vector| vector.require_exp) {
        for other in ["secret", "rsa.pem", "p256.pem", "p384.pem", "ed25519.pem"] {
            let keys = keys(other, &fixture.secret);
            let JwtKeys::Configured(list) = &keys else {
                unreachable!("they are single keys");
            };
            let fits = list[0].kind() == vector.algorithms[0].key_kind();
            let verified = verify(&vector.token, &policy(&all), &keys, now);
            assert_eq!(verified.is_ok(), fits, "{} with {other}", vector.name);
        }
    }
}

#[test]
fn the_secret_before_this_one_counts_too() {
    let fixture = fixture();
    let now = UNIX_EPOCH + Duration::from_secs(fixture.now);
    let secret = |text: &str| JwtKey::secret(text.as_bytes()).expect("long");
    let new = secret("another secret of thirty-two bytes or more");
    let token = &fixture.tokens.iter().find(|it| it.name == "HS256");
    let token = &token.expect("it is there").token;
    let policy = policy(&[JwtAlgorithm::Hs256]);
    let both = JwtKeys::Configured(vec![new.clone(), secret(&fixture.secret)]);
    assert!(verify(token, &policy, &both, now).is_ok());
    let one = JwtKeys::Configured(vec![new]);
    assert_eq!(
        verify(token, &policy, &one, now),
        Err(JwtRefused::Signature)
    );
}

#[test]
fn the_end_of_a_token_is_known() {
    let fixture = fixture();
    let now = UNIX_EPOCH + Duration::from_secs(fixture.now);
    let token = &fixture.tokens[0].token;
    let keys = keys("secret", &fixture.secret);
    let verified = verify(token, &policy(&[JwtAlgorithm::Hs256]), &keys, now);
    let end: SystemTime = UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    assert_eq!(verified.expect("valid").expires, Some(end));
}

#[test]
fn what_is_no_key_is_refused() {
    let private = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----";
    let rsa_header = "-----BEGIN RSA PUBLIC KEY-----\nMAA=\n-----END RSA PUBLIC KEY-----";
    let cut = RSA.replacen("MII", "MIH", 1);
    for (text, expected) in [
        ("", JwtKeyError::NoPem),
        ("s3cret", JwtKeyError::NoPem),
        (
            "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",
            JwtKeyError::NoPem,
        ),
        (private, JwtKeyError::Private),
        (rsa_header, JwtKeyError::Unsupported),
        (&cut, JwtKeyError::Unsupported),
    ] {
        assert_eq!(JwtKey::pem(text), Err(expected), "{text}");
    }
    assert_eq!(
        JwtKey::secret(RSA.as_bytes()),
        Err(JwtKeyError::SecretIsPem)
    );
    assert_eq!(JwtKey::secret(b"short"), Err(JwtKeyError::ShortSecret(5)));
    for json in [
        "",
        "[]",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"x"}]}"#,
    ] {
        assert!(JwkSet::parse(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn what_is_signed_is_verified_by_its_own_key_and_algorithm_alone() {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
    };

    const RSA_PAIR: &str = include_str!("../../../tests/fixtures/jwt/private.rsa.pem");
    let random = SystemRandom::new();
    let pem = |der: &[u8]| {
        let text = BASE64_STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    };
    let ecdsa = |with| {
        let der = EcdsaKeyPair::generate_pkcs8(with, &random).expect("random bytes");
        let pair = EcdsaKeyPair::from_pkcs8(with, der.as_ref(), &random).expect("a pair");
        (pem(der.as_ref()), pair.public_key().as_ref().to_vec())
    };
    let p256 = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let p384 = ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING);
    let der = Ed25519KeyPair::generate_pkcs8(&random).expect("random bytes");
    let ed25519 = Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a pair");
    let rsa = RSA_PAIR.lines().filter(|line| !line.starts_with("-----"));
    let rsa = BASE64_STANDARD
        .decode(rsa.collect::<String>())
        .expect("Base64");
    let rsa = RsaKeyPair::from_pkcs8(&rsa).expect("a pair");
    let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public());
    let secret = || JwtKey::secret(&[7; 32]).expect("long");
    let keys = [
        (None, secret()),
        (Some(p256.0), JwtKey::p256(&p256.1).expect("a point")),
        (Some(p384.0), JwtKey::p384(&p384.1).expect("a point")),
        (
            Some(pem(der.as_ref())),
            JwtKey::ed25519(ed25519.public_key().as_ref()).expect("a key"),
        ),
        (
            Some(RSA_PAIR.to_owned()),
            JwtKey::rsa(&rsa.n, &rsa.e).expect("a key"),
        ),
    ];
    let now = SystemTime::now();
    let claims = serde_json::json!({"sub": "ada"});
    let claims = claims.as_object().expect("an object");
    let mut signed = 0;
    for name in [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
        "ES384", "EdDSA",
    ] {
        let algorithm = JwtAlgorithm::named(name).expect("an algorithm");
        for (private, public) in &keys {
            let signer = match private {
                None => JwtSigner::with_secret(algorithm, secret()),
                Some(pem) => JwtSigner::with_private_key(algorithm, pem),
            };
            let fits = algorithm.key_kind() == public.kind();
            assert_eq!(signer.is_ok(), fits, "{name} {:?}", public.kind());
            let Ok(signer) = signer else { continue };
            let token = signer.sign(claims).expect("a token");
            let policy = JwtPolicy {
                algorithms: vec![algorithm],
                issuers: Vec::new(),
                audiences: Vec::new(),
                leeway: Duration::ZERO,
                require_exp: false,
            };
            let keys = JwtKeys::Configured(vec![public.clone()]);
            let verified = verify(&token, &policy, &keys, now).expect("it is right");
            assert_eq!(verified.claims["sub"], "ada");
            signed += 1;
        }
    }
    assert_eq!(signed, 12);
}
