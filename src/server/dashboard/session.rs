//! [`Sessions`]: who may use the dashboard. A password or a link that works once begins a session, and a cookie keeps
//! it. Pure, except for the clock.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::lock::lock;
use crate::rate::{self, Buckets, Rate};

/// The name of the cookie.
pub(super) const COOKIE: &str = "slackir_dashboard";
/// How long a session lasts.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// How long the link of the start is valid.
const LINK_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Attempts to sign in from one address a minute.
const TRIES: u32 = 5;
/// The most sessions that were signed out and are remembered. Each would have ended within [`LIFETIME`].
const MAX_SIGNED_OUT: usize = 1_000;

/// A secret to which a text is compared, as its MAC: that takes the same time wherever the two differ.
struct Tag([u8; 32]);

impl Tag {
    fn of(secret: &str) -> Self {
        Self(Self::mac(secret).finalize().into_bytes().into())
    }

    fn is_of(&self, presented: &str) -> bool {
        Self::mac(presented).verify_slice(&self.0).is_ok()
    }

    fn mac(text: &str) -> Hmac<Sha256> {
        keyed(text.as_bytes()).chain_update(b"slackir dashboard secret")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// One browser that has signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    number: u64,
    /// In seconds since 1970.
    ends: u64,
}

impl Session {
    /// The time until it ends.
    pub(super) fn left(self) -> Duration {
        Duration::from_secs(self.ends.saturating_sub(unix_seconds()))
    }
}

/// The outcome of an attempt to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Accepted(Session),
    Wrong,
    /// Too many attempts of this address; the next one may come after this time.
    TooMany(Duration),
}

/// The sessions of one process. They end with it, because their key does.
pub(super) struct Sessions {
    key: [u8; 32],
    access: Mutex<Access>,
    /// The link of the start, until it is used: its token, and when it becomes invalid.
    link: Mutex<Option<(Tag, SystemTime)>>,
    signed_out: Mutex<VecDeque<Session>>,
    tries: Buckets,
}

/// Who may begin a session, and which sessions have begun.
struct Access {
    password: Option<Tag>,
    /// The first session since the password is this one. Those before it have ended.
    first: u64,
    /// The number of the next session.
    next: u64,
}

impl Sessions {
    /// # Errors
    /// If the system returns no random bytes.
    pub(super) fn new(password: Option<&str>) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self {
            key,
            access: Mutex::new(Access {
                password: password.map(Tag::of),
                first: 0,
                next: 0,
            }),
            link: Mutex::default(),
            signed_out: Mutex::default(),
            tries: Buckets::new(Rate::in_period(TRIES, Duration::from_secs(60))),
        })
    }

    /// Makes the token of a link that lets one browser in, in place of an earlier one.
    ///
    /// # Errors
    /// If the system returns no random bytes.
    pub(super) fn new_link(&self) -> Result<String, getrandom::Error> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes)?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        *lock(&self.link) = Some((Tag::of(&token), SystemTime::now() + LINK_LIFETIME));
        Ok(token)
    }

    /// Changes the password, and ends all sessions that have begun without the new one. Returns whether it has changed.
    /// `None`: nobody can sign in.
    pub(super) fn set_password(&self, password: Option<&str>) -> bool {
        let mut access = lock(&self.access);
        let is_same = match (&access.password, password) {
            (Some(known), Some(password)) => known.is_of(password),
            (known, password) => known.is_none() && password.is_none(),
        };
        if !is_same {
            access.password = password.map(Tag::of);
            access.first = access.next;
            *lock(&self.link) = None;
        }
        !is_same
    }

    /// Signs in with the password.
    pub(super) fn sign_in(&self, password: &str, address: Option<IpAddr>) -> Attempt {
        self.attempt(address, |access| {
            let known = access.password.as_ref();
            known.is_some_and(|known| known.is_of(password))
        })
    }

    /// Signs in with the token of the link, which is then used up.
    pub(super) fn follow_link(&self, token: &str, address: Option<IpAddr>) -> Attempt {
        self.attempt(address, |_| {
            let is_right =
                |(tag, ends): &mut (Tag, SystemTime)| tag.is_of(token) && SystemTime::now() < *ends;
            lock(&self.link).take_if(is_right).is_some()
        })
    }

    fn attempt(&self, address: Option<IpAddr>, is_right: impl FnOnce(&Access) -> bool) -> Attempt {
        if let Err(wait) = self.tries.take(address.map(client), rate::now()) {
            return Attempt::TooMany(wait);
        }
        // One lock for both, so that no session of an old password begins behind the change.
        let mut access = lock(&self.access);
        if !is_right(&access) {
            return Attempt::Wrong;
        }
        let number = access.next;
        access.next += 1;
        Attempt::Accepted(Session {
            number,
            ends: unix_seconds() + LIFETIME.as_secs(),
        })
    }

    /// The value of a session's cookie.
    pub(super) fn cookie(&self, session: Session) -> String {
        let Session { number, ends } = session;
        let tag = self.mac(session).finalize().into_bytes();
        format!("{number}.{ends}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }

    /// The session of a cookie, if it lasts.
    pub(super) fn of_cookie(&self, value: &str) -> Option<Session> {
        let mut parts = value.splitn(3, '.');
        let mut number = || parts.next()?.parse().ok();
        let session = Session {
            number: number()?,
            ends: number()?,
        };
        let tag = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        self.mac(session).verify_slice(&tag).ok()?;
        self.lasts(session).then_some(session)
    }

    /// Whether a session goes on.
    pub(super) fn lasts(&self, session: Session) -> bool {
        session.ends > unix_seconds()
            && session.number >= lock(&self.access).first
            && !lock(&self.signed_out).contains(&session)
    }

    /// Ends a session. Its cookie is worth nothing from now on.
    pub(super) fn sign_out(&self, session: Session) {
        let mut signed_out = lock(&self.signed_out);
        if signed_out.len() == MAX_SIGNED_OUT {
            signed_out.pop_front();
        }
        signed_out.push_back(session);
    }

    fn mac(&self, Session { number, ends }: Session) -> Hmac<Sha256> {
        keyed(&self.key)
            .chain_update(b"slackir dashboard session")
            .chain_update(number.to_be_bytes())
            .chain_update(ends.to_be_bytes())
    }
}

/// The addresses that count as one client: of IPv6 a /64 network.
fn client(address: IpAddr) -> [u8; 8] {
    let octets = match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            return [a, b, c, d, e, f, g, h];
        }
    };
    let [.., a, b, c, d] = octets;
    // No client has an address in this network (RFC 4291, 2.5.5).
    [0, 0, 0, 1, a, b, c, d]
}

pub(super) fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse battery";

    fn sessions() -> Sessions {
        Sessions::new(Some(PASSWORD)).expect("random bytes")
    }

    fn begun(sessions: &Sessions) -> Session {
        match sessions.sign_in(PASSWORD, None) {
            Attempt::Accepted(session) => session,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_password_begins_a_session_and_nothing_else_does() {
        let all = sessions();
        let session = begun(&all);
        let cookie = all.cookie(session);
        assert_eq!(all.of_cookie(&cookie), Some(session));
        for wrong in ["", "correct horse batter", "correct horse battery "] {
            assert_eq!(all.sign_in(wrong, None), Attempt::Wrong, "{wrong}");
        }
        let without = Sessions::new(None).expect("random bytes");
        assert_eq!(without.sign_in("", None), Attempt::Wrong);
        assert_eq!(without.of_cookie(&cookie), None, "it has another key");
    }

    #[test]
    fn a_cookie_that_is_changed_or_signed_out_is_worth_nothing() {
        let all = sessions();
        let session = begun(&all);
        let cookie = all.cookie(session);
        let (_, tag) = cookie.rsplit_once('.').expect("three parts");
        for wrong in [
            String::new(),
            "..".to_owned(),
            format!("{cookie}A"),
            format!("{}.{}.{tag}", session.number, session.ends + 1),
            format!("{}.{}.{tag}", session.number + 1, session.ends),
            format!("{}.{}.", session.number, session.ends),
        ] {
            assert_eq!(all.of_cookie(&wrong), None, "{wrong}");
        }
        let other = begun(&all);
        all.sign_out(session);
        assert_eq!(all.of_cookie(&cookie), None);
        assert!(all.of_cookie(&all.cookie(other)).is_some());
        let past = Session {
            number: 9,
            ends: unix_seconds(),
        };
        assert_eq!(all.of_cookie(&all.cookie(past)), None);
    }

    #[test]
    fn a_new_password_ends_the_sessions_and_the_link_and_the_same_one_does_not() {
        let all = sessions();
        let old = begun(&all);
        assert!(!all.set_password(Some(PASSWORD)));
        assert!(all.lasts(old));
        let token = all.new_link().expect("random bytes");
        assert!(all.set_password(Some("another good one")));
        assert!(!all.lasts(old));
        assert_eq!(all.of_cookie(&all.cookie(old)), None);
        assert_eq!(all.sign_in(PASSWORD, None), Attempt::Wrong);
        assert_eq!(all.follow_link(&token, None), Attempt::Wrong);
        let attempt = all.sign_in("another good one", None);
        assert!(matches!(attempt, Attempt::Accepted(new) if all.lasts(new)));
        assert!(all.set_password(None));
        assert_eq!(all.sign_in("another good one", None), Attempt::Wrong);
        assert!(!all.set_password(None));
    }

    #[test]
    fn a_link_works_once() {
        let all = sessions();
        assert_eq!(all.follow_link("", None), Attempt::Wrong);
        let token = all.new_link().expect("random bytes");
        assert_eq!(all.follow_link(&token[1..], None), Attempt::Wrong);
        assert!(matches!(
            all.follow_link(&token, None),
            Attempt::Accepted(_)
        ));
        assert_eq!(all.follow_link(&token, None), Attempt::Wrong);
    }

    #[test]
    fn an_address_has_five_tries_a_minute() {
        let all = sessions();
        let [eve, neighbour, ada] = ["2001:db8::1", "2001:db8::2", "192.0.2.7"]
            .map(|text| text.parse::<IpAddr>().expect("an address"));
        for _ in 0..TRIES {
            assert_eq!(all.sign_in("wrong", Some(eve)), Attempt::Wrong);
        }
        for address in [eve, neighbour] {
            let attempt = all.sign_in(PASSWORD, Some(address));
            assert!(matches!(attempt, Attempt::TooMany(_)), "{attempt:?}");
        }
        let attempt = all.sign_in(PASSWORD, Some(ada));
        assert!(matches!(attempt, Attempt::Accepted(_)), "{attempt:?}");
    }
}
