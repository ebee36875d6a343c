//! [`MemberRate`]: how often something may be done. [`RoomLimit`]: the limits of a room.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::table::only_tables;
use crate::rate::Rate;

/// `"20/10s"`: this many in that time, all at once or spread over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberRate {
    pub(crate) count: u32,
    pub(crate) period: Duration,
}

only_tables!(RoomLimit);

impl MemberRate {
    pub(crate) const fn rate(self) -> Rate {
        Rate::in_period(self.count, self.period)
    }
}

/// `limit` of `[[rooms]]`: how many messages its topics take.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub(crate) struct RoomLimit {
    /// Of one user, in all topics of the room and from all its connections. `None`: no limit.
    pub(crate) user: Option<MemberRate>,
    /// Of all members of one topic. `None`: no limit.
    pub(crate) topic: Option<MemberRate>,
}

impl RoomLimit {
    pub(crate) const fn is_set(&self) -> bool {
        self.user.is_some() || self.topic.is_some()
    }

    pub(crate) fn user(&self) -> Option<Rate> {
        self.user.map(MemberRate::rate)
    }

    pub(crate) fn topic(&self) -> Option<Rate> {
        self.topic.map(MemberRate::rate)
    }
}

impl FromStr for MemberRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (count, period) = text.split_once('/')?;
            let count = count.parse().ok().filter(|&count| count > 0)?;
            let digits = period.len()
                - period
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .len();
            let (number, unit) = period.split_at(digits);
            let unit = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            let number = if number.is_empty() {
                1
            } else {
                number.parse::<u64>().ok()?
            };
            let period = Duration::from_millis(number.checked_mul(unit)?);
            (!period.is_zero() && period <= Duration::from_secs(86_400))
                .then_some(Self { count, period })
        };
        parse().ok_or_else(|| {
            format!("{text:?}: must be a number and a time of at most a day, as \"20/10s\" or \"1/500ms\"")
        })
    }
}

impl<'de> Deserialize<'de> for MemberRate {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        for (text, count, millis) in [
            ("1/500ms", 1, 500),
            ("20/10s", 20, 10_000),
            ("5/m", 5, 60_000),
        ] {
            let rate: MemberRate = text.parse().expect(text);
            assert_eq!(
                (rate.count, rate.period),
                (count, Duration::from_millis(millis))
            );
        }
        for text in [
            "", "1", "0/s", "1/0s", "x/s", "1/d", "1/s2", "-1/s", "1/25h",
        ] {
            assert!(text.parse::<MemberRate>().is_err(), "{text}");
        }
    }
}
