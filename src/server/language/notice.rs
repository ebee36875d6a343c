//! [`Tell`]: `tell` of a room, the kinds of notices that the backend gets about it.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// What a notice is about.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoticeKind {
    /// A message is saved.
    Message,
    /// A member has joined.
    Joined,
    /// A membership has ended.
    Left,
    /// A topic has its first member.
    Occupied,
    /// A topic has had no member for a while.
    Vacated,
}

impl NoticeKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Message,
        Self::Joined,
        Self::Left,
        Self::Occupied,
        Self::Vacated,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
        }
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tell(u8);

impl Tell {
    fn with(self, kind: NoticeKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    pub(crate) fn has(self, kind: NoticeKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a kind is about members, and not about messages alone.
    pub(crate) fn has_members(self) -> bool {
        self.0 & !(1 << NoticeKind::Message as u8) != 0
    }

    /// Whether a kind depends on the number of a topic's members.
    pub(crate) fn counts(self) -> bool {
        self.has(NoticeKind::Occupied) || self.has(NoticeKind::Vacated)
    }

    /// In the order of [`NoticeKind::ALL`].
    pub(crate) fn kinds(self) -> impl Iterator<Item = NoticeKind> {
        NoticeKind::ALL
            .into_iter()
            .filter(move |kind| self.has(*kind))
    }
}

impl<'de> Deserialize<'de> for Tell {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let kinds = Vec::<NoticeKind>::deserialize(input)?;
        if kinds.is_empty() {
            return Err(D::Error::custom("must name at least one kind of notice"));
        }
        kinds.into_iter().try_fold(Self::default(), |tell, kind| {
            if tell.has(kind) {
                let problem = format!("{:?} is there twice", kind.name());
                return Err(D::Error::custom(problem));
            }
            Ok(tell.with(kind))
        })
    }
}
