//! [`Route`]: the path of a transport, matched by Plug's rules.

use actix_web::{Resource, guard, web};

/// The path of a transport in Phoenix's notation, as segments. A segment `:name` is a variable.
pub(super) struct Route(Vec<String>);

impl Route {
    pub(super) fn new(mount: &str, below: &str) -> Self {
        Self(
            segments(mount)
                .chain(segments(below))
                .map(str::to_owned)
                .collect(),
        )
    }

    /// The path; `None` if it has variables.
    pub(super) fn plain(&self) -> Option<String> {
        let has_variables = self.0.iter().any(|segment| segment.starts_with(':'));
        let path = self.0.iter().map(|segment| format!("/{segment}"));
        (!has_variables).then(|| path.collect())
    }

    /// The actix-web resource of the path. actix-web compares decoded segments, and Plug compares them as
    /// they were sent: the guard adds Plug's rule.
    pub(super) fn resource(&self) -> Resource {
        let sent = Self(self.0.clone());
        let as_sent = guard::fn_guard(move |request| sent.ends(request.head().uri.path()));
        web::resource(self.pattern()).guard(as_sent)
    }

    /// The actix-web pattern. Plug ignores empty segments, so each slash of the pattern matches any number
    /// of slashes.
    fn pattern(&self) -> String {
        let mut pattern = String::new();
        for (index, segment) in self.0.iter().enumerate() {
            // A variable whose name begins with `_` is matched, but is no connection parameter.
            pattern.push_str(&format!("/{{_slashes{index}:/*}}"));
            match segment.strip_prefix(':') {
                Some(name) => pattern.push_str(&format!("{{{name}}}")),
                None => pattern.push_str(segment),
            }
        }
        pattern.push_str("{_end:/*}");
        pattern
    }

    /// Whether an undecoded path ends with these segments. Segments before them belong to an actix-web
    /// scope.
    fn ends(&self, path: &str) -> bool {
        let mut sent = segments(path).rev();
        self.0.iter().rev().all(|segment| {
            sent.next()
                .is_some_and(|sent| segment.starts_with(':') || sent == segment)
        })
    }
}

/// The non-empty segments of a path.
fn segments(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::Route;
    use actix_web::dev::{Path, ResourceDef};

    /// Requirement 4.
    #[test]
    fn paths_match_as_in_plug() {
        let mount = ResourceDef::new(Route::new("/ws/:user_id", "a/websocket").pattern());
        for (path, user) in [
            ("/ws/7/a/websocket", Some("7")),
            ("/ws/7/a/websocket/", Some("7")),
            ("//ws/7//a/websocket", Some("7")),
            ("/ws/a/websocket", None),
            ("/ws/7/a/websocket/x", None),
            ("/ws/7/A/websocket", None),
            ("/ws/7/awebsocket", None),
        ] {
            let mut found = Path::new(path);
            let matched = mount.capture_match_info(&mut found);
            assert_eq!(
                matched.then(|| found.get("user_id").unwrap_or_default()),
                user,
                "{path}"
            );
        }
    }

    #[test]
    fn segments_are_compared_as_they_were_sent() {
        let route = Route::new("/ws/:user_id", "websocket");
        assert!(
            route.ends("/ws/%37/websocket/"),
            "a variable may be anything"
        );
        assert!(route.ends("//scope//ws/7//websocket"));
        assert!(!route.ends("/ws/7/web%73ocket"));
        assert!(!route.ends("/7/websocket"));
    }
}
