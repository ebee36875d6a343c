//! Migrations: applies all pending ones, or none.

use diesel::backend::Backend;
use diesel::migration::MigrationSource;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::store::backend::{DbConnection, Fault, Prepared};
use crate::store::tables::takeover;

#[cfg(feature = "sqlite")]
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgresql");

/// Migrates in the caller's transaction. If a migration fails, or the tables then refuse a message, the caller rolls
/// everything back.
pub(in crate::store) fn run(
    connection: &mut DbConnection<'_>,
    adopt: bool,
) -> Result<Prepared, Fault> {
    let lacking = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => names(*sqlite, SQLITE),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => names(*postgres, POSTGRES),
    }?;
    takeover::check(connection, &lacking, adopt)?;
    let migrations = match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(sqlite) => apply(*sqlite, SQLITE),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(postgres) => apply(*postgres, POSTGRES),
    }?;
    takeover::try_insert(connection)?;
    let adopted = if adopt {
        takeover::adopt_rows(connection)?
    } else {
        0
    };
    Ok(Prepared {
        migrations,
        adopted,
    })
}

/// The names of the pending migrations.
fn names<DB: Backend, C: MigrationHarness<DB>>(
    connection: &mut C,
    source: EmbeddedMigrations,
) -> Result<Vec<String>, Fault>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let pending = connection.pending_migrations(source);
    let pending = pending.map_err(Fault::Migration)?;
    let names = pending.iter().map(|migration| migration.name().to_string());
    Ok(names.collect())
}

/// The versions of all migrations, with their names.
pub(in crate::store) fn versions(
    connection: &DbConnection<'_>,
) -> Result<Vec<(String, String)>, Fault> {
    match connection {
        #[cfg(feature = "sqlite")]
        DbConnection::Sqlite(_) => versions_of::<diesel::sqlite::Sqlite>(&SQLITE),
        #[cfg(feature = "postgres")]
        DbConnection::Postgres(_) => versions_of::<diesel::pg::Pg>(&POSTGRES),
    }
}

fn versions_of<DB: Backend>(source: &EmbeddedMigrations) -> Result<Vec<(String, String)>, Fault>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let migrations = MigrationSource::<DB>::migrations(source).map_err(Fault::Migration)?;
    let names = migrations.iter().map(|migration| migration.name());
    let versions = names.map(|name| (name.version().to_string(), name.to_string()));
    Ok(versions.collect())
}

fn apply<DB: Backend, C: MigrationHarness<DB>>(
    connection: &mut C,
    source: EmbeddedMigrations,
) -> Result<Vec<String>, Fault>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let applied = connection.run_pending_migrations(source);
    let applied = applied.map_err(Fault::Migration)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}
