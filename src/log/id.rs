//! [`MessageId`]: identifies a stored message of a topic by an [`Epoch`] and a [`Seq`].

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The place of a message in its topic, counted from 1. A later message has a higher seq; there are gaps.
/// It compares with numbers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(i64);

impl Seq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);

    /// After every message.
    pub const MAX: Self = Self(i64::MAX);

    /// Before every row, including rows that other applications have written.
    pub(crate) const MIN: Self = Self(i64::MIN);

    /// Makes a seq from a number, which must not be negative.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The number by reference, as database columns need it.
    pub(crate) const fn number(&self) -> &i64 {
        &self.0
    }

    /// The next seq.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The previous seq.
    #[must_use]
    pub const fn previous(self) -> Self {
        self.plus(-1)
    }

    /// The seq that is `places` further on.
    #[must_use]
    pub const fn plus(self, places: i64) -> Self {
        Self(self.0.saturating_add(places))
    }

    /// How many places it is after `earlier`; 0 if it is not after it.
    pub(crate) fn distance_from(self, earlier: Self) -> usize {
        usize::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default()
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq<i64> for Seq {
    fn eq(&self, number: &i64) -> bool {
        self.0 == *number
    }
}

impl PartialOrd<i64> for Seq {
    fn partial_cmp(&self, number: &i64) -> Option<Ordering> {
        self.0.partial_cmp(number)
    }
}

/// The number of one run of a topic's sequence. Each process begins a new run with its first message to a
/// topic, because a database that was restored, or whose server was killed, lacks messages that clients
/// have seen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(i64);

impl Epoch {
    /// Makes an epoch from a number, which must not be negative.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The number by reference, as database columns need it.
    pub(crate) const fn number(&self) -> &i64 {
        &self.0
    }
}

/// Identifies one stored message of a topic. Clients treat it as an opaque string.
///
/// ```
/// use slackir::log::{Epoch, MessageId, Seq};
///
/// let id: MessageId = "2f-17".parse().unwrap();
/// assert_eq!(id, MessageId::new(Epoch::new(0x2f), Seq::new(17)));
/// assert_eq!(id.to_string(), "2f-17");
/// assert!("2f-x".parse::<MessageId>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The run in which the message was sent.
    pub epoch: Epoch,
    /// The place of the message in its topic.
    pub seq: Seq,
}

/// The text is no message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message id")]
#[non_exhaustive]
pub struct InvalidMessageId;

impl MessageId {
    /// The id of the message at `seq` in the run `epoch`.
    pub const fn new(epoch: Epoch, seq: Seq) -> Self {
        Self { epoch, seq }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch.0, self.seq)
    }
}

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, seq) = text.split_once('-').ok_or(InvalidMessageId)?;
        let epoch = i64::from_str_radix(epoch, 16).map_err(|_| InvalidMessageId)?;
        let seq = seq.parse().map_err(|_| InvalidMessageId)?;
        let id = Self::new(Epoch(epoch), Seq(seq));
        // One spelling for one message: no signs, no leading zeros.
        if epoch < 0 || seq < 0 || id.to_string() != text {
            return Err(InvalidMessageId);
        }
        Ok(id)
    }
}
