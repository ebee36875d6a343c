//! [`DatabaseCondition`]: whether a server could use a database, found out without a change to it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use diesel::prelude::*;

use crate::metrics::Query;
use crate::store::backend::{Backend, DbConnection, Fault, Role, StoreError, on_each_backend};
use crate::store::tables::{migrations, takeover};
use crate::store::write::DbWriterHandle;

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
        // No table of migrations: none was run.
        let applied = applied(connection).unwrap_or_default();
        takeover::check(connection, &lacking(&known, &applied), true)?;
        Ok(Self::compare(&known, &applied))
    }

    /// Looks at the database of a server that runs, through its own connections. `None`: it does not answer.
    pub(crate) async fn of_running(writer: &DbWriterHandle) -> Option<Self> {
        let looked = writer.readers().clone().read(Query::Api, |connection| {
            let known = migrations::versions(connection).ok();
            let applied = applied(connection)?;
            Ok(known.map(|known| Self::compare(&known, &applied)))
        });
        looked.await.ok()?
    }

    fn compare(known: &[Migration], applied: &BTreeSet<String>) -> Self {
        let is_known = |version: &&String| known.iter().any(|(known, _)| known == *version);
        let unknown = applied.iter().filter(|version| !is_known(version)).count();
        match (lacking(known, applied).len(), unknown) {
            (0, 0) => Self::Current,
            (0, unknown) => Self::Newer(unknown),
            (lacking, _) => Self::Older(lacking),
        }
    }
}

/// The version and the name of a migration.
type Migration = (String, String);

/// The names of the migrations that were not run.
fn lacking(known: &[Migration], applied: &BTreeSet<String>) -> Vec<String> {
    let lacking = known
        .iter()
        .filter(|(version, _)| !applied.contains(version));
    lacking.map(|(_, name)| name.clone()).collect()
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

/// The versions of the migrations that were run.
///
/// # Errors
/// If the database does not answer, or diesel's table is missing.
fn applied(connection: &mut DbConnection<'_>) -> QueryResult<BTreeSet<String>> {
    use self::__diesel_schema_migrations::{table, version};
    let versions = table.select(version);
    let loaded: Vec<String> = on_each_backend!(connection, |typed| versions.load(typed))?;
    Ok(loaded.into_iter().collect())
}
