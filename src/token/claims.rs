//! The content of a token: the data, the time of its signing, and its maximum age.
//!
//! Pure: the time is an argument. Phoenix: `encode/2`, `decode/2` and `validate_age/2` of
//! `Plug.Crypto`.

use std::time::SystemTime;

use super::{EncodeError, MaxAge, SignOptions, Term, TokenError, VerifyOptions};

/// Encodes `{data, signed_at_ms, max_age_s}`.
pub(super) fn pack(data: Term, options: SignOptions) -> Result<Vec<u8>, EncodeError> {
    let signed_at = Term::Integer(unix_millis(options.signed_at));
    Term::Tuple(vec![data, signed_at, options.max_age.into()]).encode(options.atoms)
}

/// The data of a message whose signature was checked, if it is a token and not too old, and the time of its signing.
/// `None`: a token without a limit may have no time.
pub(super) fn unpack(
    message: &[u8],
    options: VerifyOptions,
) -> Result<(Term, Option<SystemTime>), TokenError> {
    let (data, signed_at, own_max_age) = Term::decode(message)
        .and_then(parts)
        .ok_or(TokenError::Invalid)?;
    let max_age = options.max_age.map_or(own_max_age, Term::from);
    let Some(lifetime) = lifetime(&max_age)? else {
        let at = match signed_at {
            Term::Integer(signed_at) => from_unix_millis(signed_at),
            _ => None,
        };
        return Ok((data, at));
    };
    let now = unix_millis(options.now);
    match signed_at {
        Term::Integer(signed_at) if signed_at > now => Err(TokenError::Invalid),
        Term::Integer(signed_at) if signed_at.saturating_add(lifetime) < now => {
            Err(TokenError::Expired)
        }
        Term::Integer(signed_at) => Ok((data, from_unix_millis(signed_at))),
        _ => Err(TokenError::Invalid),
    }
}

/// Data, time and maximum age. Two older forms have no maximum age and are valid for one day: `{data,
/// signed_at}` of plug_crypto 1.1, and `%{data: data, signed: signed_at}` of Phoenix before it.
fn parts(term: Term) -> Option<(Term, Term, Term)> {
    match term {
        Term::Tuple(elements) => match <[Term; 3]>::try_from(elements) {
            Ok([data, signed_at, max_age]) => Some((data, signed_at, max_age)),
            Err(elements) => {
                let [data, signed_at] = <[Term; 2]>::try_from(elements).ok()?;
                Some((data, signed_at, MaxAge::DEFAULT.into()))
            }
        },
        Term::Map(mut entries) => {
            let data = entries.remove(&Term::atom("data"))?;
            let signed_at = entries.remove(&Term::atom("signed"))?;
            Some((data, signed_at, MaxAge::DEFAULT.into()))
        }
        _ => None,
    }
}

/// A maximum age in milliseconds; `None` means no limit.
fn lifetime(max_age: &Term) -> Result<Option<i128>, TokenError> {
    const MILLIS: i128 = 1000;
    match max_age {
        Term::Atom(name) if name == INFINITY => Ok(None),
        Term::Integer(seconds) if *seconds <= 0 => Err(TokenError::Expired),
        Term::Integer(seconds) => Ok(Some(seconds.saturating_mul(MILLIS))),
        Term::Float(seconds) if *seconds <= 0.0 => Err(TokenError::Expired),
        // Truncates as Erlang does. A value beyond the range becomes its end.
        Term::Float(seconds) => Ok(Some((seconds * MILLIS as f64) as i128)),
        _ => Err(TokenError::Invalid),
    }
}

const INFINITY: &str = "infinity";

/// Whole seconds become an integer, others a float, as an Elixir programmer would write them.
impl From<MaxAge> for Term {
    fn from(max_age: MaxAge) -> Self {
        match max_age {
            MaxAge::Infinity => Self::atom(INFINITY),
            MaxAge::Limited(age) if age.subsec_nanos() == 0 => Self::from(age.as_secs()),
            MaxAge::Limited(age) => Self::Float(age.as_secs_f64()),
        }
    }
}

/// Milliseconds since 1970, truncated towards zero; negative before 1970.
fn unix_millis(time: SystemTime) -> i128 {
    let millis = |age: std::time::Duration| {
        i128::try_from(age.as_millis()).expect("2^64 seconds are fewer than 2^127 milliseconds")
    };
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    }
}

/// The inverse; `None` outside of the range of a clock.
fn from_unix_millis(millis: i128) -> Option<SystemTime> {
    let age = std::time::Duration::from_millis(u64::try_from(millis.unsigned_abs()).ok()?);
    if millis < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(age)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(age)
    }
}
