use std::num::{NonZeroU16, NonZeroU32};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CookieStore, InvalidSessionOptions, NoSession, SessionOptions};
use crate::token::{KeyDigest, KeyOptions, SecretKeyBase, Signer, Term};

const SECRET: &str = "abcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefgh";

/// The session's value of `_csrf_token`, and the token that a page of the session sends.
const OF_SESSION: &str = "ZGVmZ2hpamtsbW5vcHFyc3R1";
const OF_PAGE: &str = "Iwo4JiMKEj4bHisiUjN5IlIGHi5SCjhryMnKy8zNzs_Q0dLT1NXW19jZ";

// Cookies made in Python from the description of the formats, by the functions that make the token vectors.
// Each holds `%{"_csrf_token" => OF_SESSION, "live" => true, "roles" => ["admin"], "user_id" => 7}`, unless
// its comment names another session.

/// With `signing_salt: "signing salt"`.
const SIGNED: &str = "SFMyNTY.g3QAAAAEbQAAAAtfY3NyZl90b2tlbm0AAAAYWkdWbVoyaHBhbXRzYlc1dmNIRnljM1IxbQAAAARsaXZ\
     ldwR0cnVlbQAAAAVyb2xlc2wAAAABbQAAAAVhZG1pbmptAAAAB3VzZXJfaWRhBw.CN7i4f3D-nsKvPv3NaC4OrYneyrJLSJwL3jsbZ\
     bE7i4";
/// With `encryption_salt: "encryption salt"` as well, and the nonce 00 01 .. 17.
const ENCRYPTED: &str = "XCP.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX5WIaKW5eapNNd63h3LHHFVFgNszNLl1DBpDO3GHcqqMZhSdGch\
     hhmo-SiCaW51yoqQngALuxzqtQwNDecj_VuQfX1r9SaoTespOl702_U4qKp4GLKSM8c_XnqrRjQ3hD0J7aoTcjXj-gGVVPwQ1D9aWf\
     7D8o9ANnuq8";
/// The same session, encrypted as by plug_crypto 1, which also authenticates the signing key.
const A128GCM: &str = "QTEyOEdDTQ.ggMdTJIyZOf_H22tLBAx1xbboOA8twl_IZpiYNa2yE0gISIjJCUmJygpKis.MDEyMzQ1Njc4OTo7.\
     GGlJ6kK0Z-ywvODSs5yw31vlVqYf2UtdGUws7HhyX9Q_2cnVnKasNfQOJOdXCRc2WcjwvVDycPNMKHquypenV530ZZeZ4AEJ5aoCz6\
     y7ALrhYCYX51uongaIZziUg9ZYsfcOyoHtamJ0Uw.gNZv08OHgWt7ei4f3GdfIQ";
/// Like [`A128GCM`], but without the signing key, as tokens are encrypted.
const A128GCM_OF_TOKENS: &str = "QTEyOEdDTQ.ggMdTJIyZOf_H22tLBAx1x4eKKPvlWhiLB0cjefl4rsgISIjJCUmJygpKis.MDEyMzQ\
     1Njc4OTo7.GGlJ6kK0Z-ywvODSs5yw31vlVqYf2UtdGUws7HhyX9Q_2cnVnKasNfQOJOdXCRc2WcjwvVDycPNMKHquypenV530ZZeZ\
     4AEJ5aoCz6y7ALrhYCYX51uongaIZziUg9ZYsfcOyoHtamJ0Uw.gNZv08OHgWt7ei4f3GdfIQ";
/// `%{"my_csrf" => OF_SESSION}` with 2,000 iterations, 64 bytes and SHA-512.
const OTHER_KEY_OPTIONS: &str = "SFMyNTY.g3QAAAABbQAAAAdteV9jc3JmbQAAABhaR1ZtWjJocGFtdHNiVzV2Y0hGeWMzUjE.KR1y_jd\
     JENKEAf_XTjxtdDOEjG65AleMFLRy-7f6GRA";
/// `%{"user_id" => 7}`.
const WITHOUT_TOKEN: &str =
    "SFMyNTY.g3QAAAABbQAAAAd1c2VyX2lkYQc.BszSPokijIzceKhp3paJxYgzD7LPBX-FsLu5UzQvxm4";
/// `OF_SESSION` without its last character, alone.
const SHORT_TOKEN: &str = "SFMyNTY.g3QAAAABbQAAAAtfY3NyZl90b2tlbm0AAAAXWkdWbVoyaHBhbXRzYlc1dmNIRnljM1I.Q9vaR0Fb\
     tR6sCQwgND-C24UwBkHfQJfTUMopZhHfSwI";
/// `[7]`, and bytes that are not a term.
const NO_MAP: &str = "SFMyNTY.g2wAAAABYQdq.uogSdbRv1Gx-urdN_wbEPDvDSVI9NgPetRS3FM_f5Og";
const NO_TERM: &str = "SFMyNTY.cnViYmlzaA.X8kMXnqgPVuYn5HI3S6cOVNqxYKonuJumF3RfN5QNxo";

fn options() -> SessionOptions {
    let secret = SecretKeyBase::new(SECRET).expect("long enough");
    SessionOptions::new("_my_app_key", secret, "signing salt")
}

fn encrypting() -> SessionOptions {
    SessionOptions {
        encryption_salt: Some("encryption salt".to_owned()),
        ..options()
    }
}

fn unchecked() -> SessionOptions {
    SessionOptions {
        check_csrf: false,
        ..options()
    }
}

fn get(options: &SessionOptions, cookie: &str, csrf_token: &str) -> Result<Value, NoSession> {
    let store = CookieStore::new(options).expect("good options");
    let session = store.get(Some(cookie), Some(csrf_token))?;
    Ok(Value::try_from(session).expect("it has a JSON form"))
}

fn whole() -> Value {
    json!({"_csrf_token": OF_SESSION, "live": true, "roles": ["admin"], "user_id": 7})
}

#[test]
fn cookies_of_an_application_are_read() {
    assert_eq!(get(&options(), SIGNED, OF_PAGE), Ok(whole()));
    assert_eq!(get(&encrypting(), ENCRYPTED, OF_PAGE), Ok(whole()));
    assert_eq!(get(&encrypting(), A128GCM, OF_PAGE), Ok(whole()));
    let other = SessionOptions {
        csrf_token_key: "my_csrf".to_owned(),
        key_options: KeyOptions {
            iterations: NonZeroU32::new(2000).expect("not zero"),
            length: NonZeroU16::new(64).expect("not zero"),
            digest: KeyDigest::Sha512,
        },
        ..options()
    };
    let session = json!({"my_csrf": OF_SESSION});
    assert_eq!(get(&other, OTHER_KEY_OPTIONS, OF_PAGE), Ok(session));
}

/// Requirement 42.
#[test]
fn other_cookies_are_no_sessions() {
    let salted = |signing_salt: &str, encryption_salt: Option<&str>| SessionOptions {
        signing_salt: signing_salt.to_owned(),
        encryption_salt: encryption_salt.map(str::to_owned),
        ..unchecked()
    };
    let stranger = SessionOptions {
        secret_key_base: SecretKeyBase::new(SECRET.replace('h', "i")).expect("long enough"),
        ..unchecked()
    };
    let encrypting = salted("signing salt", Some("encryption salt"));
    for (options, cookie) in [
        (salted("other", None), SIGNED),
        (stranger, SIGNED),
        (unchecked(), ENCRYPTED),
        (unchecked(), NO_MAP),
        (unchecked(), NO_TERM),
        (unchecked(), ""),
        (unchecked(), &format!("\"{SIGNED}\"")),
        (unchecked(), &SIGNED[..SIGNED.len() - 1]),
        (encrypting.clone(), SIGNED),
        (encrypting, A128GCM_OF_TOKENS),
        (salted("signing salt", Some("other")), ENCRYPTED),
        (salted("signing salt", Some("other")), A128GCM),
        (salted("other", Some("encryption salt")), A128GCM),
    ] {
        let read = get(&options, cookie, OF_PAGE);
        assert_eq!(read, Err(NoSession::BadCookie), "{cookie}");
    }
    let store = CookieStore::new(&unchecked()).expect("good options");
    assert_eq!(store.get(None, Some(OF_PAGE)), Err(NoSession::NoCookie));
}

/// Requirement 43.
#[test]
fn a_page_must_know_the_token_of_its_session() {
    let masked_and_mask = OF_PAGE.split_at(32);
    let zeros = "A".repeat(32);
    for token in [
        "",
        OF_SESSION,
        &OF_PAGE[..55],
        &format!("{OF_PAGE}A"),
        &format!("{OF_PAGE}="),
        &format!("{}{}", masked_and_mask.1, masked_and_mask.0),
        // The mask equals the token, so the masked token is zeros; one character too many.
        &format!("{zeros}{OF_SESSION}x"),
        &OF_PAGE.replacen("Iwo4", "Iwo!", 1),
        &OF_PAGE.replacen("s_", "s/", 1),
        // 22 bytes of token under a mask of 24.
        &format!("{}=={}", &OF_PAGE[..30], masked_and_mask.1),
        &"é".repeat(28),
        "SFMyNTY.aG9zdA.c2lnbmF0dXJl",
    ] {
        let read = get(&options(), SIGNED, token);
        assert_eq!(read, Err(NoSession::BadCsrfToken), "{token}");
    }
    for cookie in [WITHOUT_TOKEN, SHORT_TOKEN] {
        let read = get(&options(), cookie, OF_PAGE);
        assert_eq!(read, Err(NoSession::BadCsrfToken), "{cookie}");
        assert!(get(&unchecked(), cookie, OF_PAGE).is_ok(), "{cookie}");
    }
    let store = CookieStore::new(&options()).expect("good options");
    let silent = store.get(Some(SIGNED), None);
    assert_eq!(silent, Err(NoSession::BadCsrfToken));
    let unchecked = CookieStore::new(&unchecked()).expect("good options");
    assert!(unchecked.get(Some(SIGNED), None).is_ok());
}

/// Every mask makes another valid token. Changing any character makes a token invalid.
#[test]
fn any_mask_will_do_and_no_character_may_change() {
    let zero_mask = format!("WkdWbVoyaHBhbXRzYlc1dmNIRnljM1Ix{}", "\0".repeat(24));
    assert_eq!(get(&options(), SIGNED, &zero_mask), Ok(whole()));
    let store = CookieStore::new(&options()).expect("good options");
    for at in 0..OF_PAGE.len() {
        let mut changed = OF_PAGE.to_owned();
        let other = if &OF_PAGE[at..=at] == "A" { "B" } else { "A" };
        changed.replace_range(at..=at, other);
        let read = store.get(Some(SIGNED), Some(&changed));
        assert_eq!(read, Err(NoSession::BadCsrfToken), "{changed}");
    }
}

#[test]
fn options_that_no_application_has_are_refused() {
    let short = SessionOptions {
        secret_key_base: SecretKeyBase::new(&SECRET[1..]).expect("long enough for a token"),
        ..options()
    };
    let refused = CookieStore::new(&short).err();
    assert_eq!(refused, Some(InvalidSessionOptions::ShortSecret(63)));
    let length = |options: SessionOptions| SessionOptions {
        key_options: KeyOptions {
            length: NonZeroU16::new(16).expect("not zero"),
            ..KeyOptions::DEFAULT
        },
        ..options
    };
    let refused = CookieStore::new(&length(encrypting())).err();
    assert!(matches!(refused, Some(InvalidSessionOptions::KeyLength(_))));
    assert!(CookieStore::new(&length(options())).is_ok());
}

#[test]
fn secrets_are_not_printed() {
    assert!(!format!("{:?}", options()).contains(&SECRET[..8]));
}

proptest! {
    #[test]
    fn no_cookie_and_no_token_make_reading_panic(
        text in ".*",
        parts in "[A-Za-z0-9_=-]{0,9}(\\.[A-Za-z0-9_=-]{0,90}){0,5}",
        token in "[A-Za-z0-9_=-]{0,60}|.{0,60}",
    ) {
        let stores = [options(), encrypting()].map(|options| CookieStore::new(&options));
        for store in stores.map(|store| store.expect("good options")) {
            for head in ["", "SFMyNTY.", "SFM1MTI.", "XCP.", "QTEyOEdDTQ."] {
                for rest in [&text, &parts] {
                    let read = store.get(Some(&format!("{head}{rest}")), Some(&token));
                    prop_assert_eq!(read, Err(NoSession::BadCookie));
                }
            }
        }
    }

    /// Bytes with a valid signature are not trusted either.
    #[test]
    fn no_signed_bytes_make_reading_panic(bytes in any::<Vec<u8>>(), token in any::<Vec<u8>>()) {
        let options = options();
        let salt = &options.signing_salt;
        let signer = Signer::new(&options.secret_key_base, salt, options.key_options);
        let store = CookieStore::new(&options).expect("good options");
        let session = Term::from_iter([("_csrf_token".to_owned(), Term::Binary(token))]);
        let session = session.encode(Default::default()).expect("small");
        for bytes in [&bytes, &[&[131], &*bytes].concat(), &session] {
            let cookie = signer.sign_message(bytes);
            prop_assert!(store.get(Some(&cookie), Some(OF_PAGE)).is_err());
        }
    }
}
