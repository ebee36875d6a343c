//! [`DatabaseCondition`]: whether a server could use a database, found out without a change to it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use diesel::prelude::*;

use crate::store::backend::{Backend, DbConnection, Fault, Role, StoreError, on_each_backend};
use crate::store::tables::{migrations, takeover};

diesel::table! {
    /// The table of diesel's migrations.
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// What a server would find at a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseCondition {
    /// There is no file yet; a server creates it.
    Missing(PathBuf),
    /// The tables are those of this version.
    Current,
    /// A server would run this many migrations at its start.
    Older(usize),
    /// A later version has run this many migrations that this one does not know.
    Newer(usize),
}

impl DatabaseCondition {
    /// Looks at the database. Creates and changes nothing.
    ///
    /// # Errors
    /// If the URL is unknown, or the database is unreachable or has tables that a server cannot use.
    pub fn of(url: &str) -> Result<Self, StoreError> {
        let backend = match Backend::open_to_look(url) {
            Err(Fault::Missing(path)) => return Ok(missing(path)?),
            opened => opened?,
        };
        let mut pooled = backend.pool(Role::Readers(1))?.get()?;
        let connection = &mut pooled.connection();
        let known = migrations::versions(connection)?;
        let applied = applied(connection);
        let lacking = known
            .iter()
            .filter(|(version, _)| !applied.contains(version));
        let lacking: Vec<_> = lacking.map(|(_, name)| name.clone()).collect();
        takeover::check(connection, &lacking, true)?;
        let is_known = |version: &&String| known.iter().any(|(known, _)| known == *version);
        let unknown = applied.iter().filter(|version| !is_known(version)).count();
        Ok(match (lacking.len(), unknown) {
            (0, 0) => Self::Current,
            (0, unknown) => Self::Newer(unknown),
            (lacking, _) => Self::Older(lacking),
        })
    }
}

/// A server creates the file, but no folder.
fn missing(path: PathBuf) -> Result<DatabaseCondition, Fault> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => Err(Fault::NoFolder(folder.to_owned())),
        _ => Ok(DatabaseCondition::Missing(path)),
    }
}

/// The versions of the migrations that were run; none if diesel's table is missing.
fn applied(connection: &mut DbConnection<'_>) -> BTreeSet<String> {
    use self::__diesel_schema_migrations::{table, version};
    let versions = table.select(version);
    let loaded: QueryResult<Vec<String>> =
        on_each_backend!(connection, |typed| versions.load(typed));
    loaded.unwrap_or_default().into_iter().collect()
}
