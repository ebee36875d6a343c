//! [`Limit`]: the name of a limit that refuses messages, connections or requests.

/// A limit. Refusals and the metric `slackir_limited_total` have its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Messages of a connection.
    Pushes,
    /// Bytes of a connection's messages.
    Bytes,
    /// Joins of a connection.
    Joins,
    /// Changes of a connection's presences.
    Presences,
    /// Messages of one event of a member.
    Event,
    /// Messages of a user in the topics of a room.
    User,
    /// Messages of all members of a topic.
    Topic,
    /// Messages of a person in a topic in slow mode.
    SlowMode,
    /// New connections of an address.
    Connects,
    /// Open connections of a user.
    Connections,
    /// Requests to the HTTP API.
    Api,
    /// Attempts to sign in to the dashboard.
    Login,
}

impl Limit {
    /// All limits, in the order of the enum.
    pub(crate) const ALL: [Self; 12] = [
        Self::Pushes,
        Self::Bytes,
        Self::Joins,
        Self::Presences,
        Self::Event,
        Self::User,
        Self::Topic,
        Self::SlowMode,
        Self::Connects,
        Self::Connections,
        Self::Api,
        Self::Login,
    ];

    /// `limit` in refusals and in the metric.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pushes => "pushes",
            Self::Bytes => "bytes",
            Self::Joins => "joins",
            Self::Presences => "presences",
            Self::Event => "event",
            Self::User => "user",
            Self::Topic => "topic",
            Self::SlowMode => "slow_mode",
            Self::Connects => "connects",
            Self::Connections => "connections",
            Self::Api => "api",
            Self::Login => "login",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn each_limit_is_at_its_place() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{}", limit.name());
        }
    }
}
