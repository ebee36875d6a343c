//! The language of `[identity]` and `[[rooms]]`: rules for members, as data.
//!
//! Everything here is pure, and is checked when the configuration is read. `server::rooms` carries the rules out.
//! docs/ROOMS.md is the reference.

mod accepted_token;
mod age;
mod audience;
mod condition;
mod event_name;
mod history;
mod identity;
mod limit;
mod notice;
mod rule;
mod shape;
mod table;
pub(crate) mod template;

pub(crate) use self::accepted_token::{
    JoinToken, JwtConfig, JwtKeySource, LocalKeySource, PhoenixTokenConfig, SecretSource,
};
pub(crate) use self::age::age;
pub(crate) use self::audience::{Audience, LabelTemplate, check_label, several};
pub(crate) use self::event_name::{MAX_NAME, check_event, of_the_server};
pub(crate) use self::history::history_item;
pub(crate) use self::identity::IdentityConfig;
pub(crate) use self::identity::Source;
pub(crate) use self::limit::MemberRate;
pub(crate) use self::limit::RoomLimit;
pub(crate) use self::notice::{NoticeKind, Tell};
pub(crate) use self::rule::{Announcement, EventRule, JoinRule, OtherEvents, PresenceRule};
pub(crate) use self::rule::{Moment, OlderRule, PresenceChange, used};
pub(crate) use self::shape::{Shapes, ShapesInWords};
pub(crate) use self::table::only_tables;
