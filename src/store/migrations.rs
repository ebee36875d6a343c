//! Migrations: all that a database lacks, or none of them.

use diesel::backend::Backend;
use diesel::migration::MigrationSource;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::backend::Connection;
use super::{Prepared, StoreError, takeover};

#[cfg(feature = "sqlite")]
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgresql");

/// Makes the tables this version's, in the transaction of the caller: what fails, or finds tables
/// that do not take a message then, leaves all of them as they were.
pub(super) fn run(connection: &mut Connection<'_>, adopt: bool) -> Result<Prepared, StoreError> {
    let lacking = match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(sqlite) => names(*sqlite, SQLITE),
        #[cfg(feature = "postgres")]
        Connection::Postgres(postgres) => names(*postgres, POSTGRES),
    }?;
    takeover::check(connection, &lacking, adopt)?;
    let migrations = match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(sqlite) => apply(*sqlite, SQLITE),
        #[cfg(feature = "postgres")]
        Connection::Postgres(postgres) => apply(*postgres, POSTGRES),
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

/// The names of the migrations that are lacking.
fn names<DB: Backend, C: MigrationHarness<DB>>(
    connection: &mut C,
    source: EmbeddedMigrations,
) -> Result<Vec<String>, StoreError>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let pending = connection.pending_migrations(source);
    let pending = pending.map_err(StoreError::Migration)?;
    let names = pending.iter().map(|migration| migration.name().to_string());
    Ok(names.collect())
}

fn apply<DB: Backend, C: MigrationHarness<DB>>(
    connection: &mut C,
    source: EmbeddedMigrations,
) -> Result<Vec<String>, StoreError>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let applied = connection.run_pending_migrations(source);
    let applied = applied.map_err(StoreError::Migration)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}
