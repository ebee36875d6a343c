//! The eras of clusters, and which nodes reach the bus. [`Era`] says what an era is.
//!
//! A node that comes to the bus and a node that ends an era lock the same row. So either the era does not end, or the
//! first node learns that it has ended. Only PostgreSQL has these tables, so they are not in the schema. All times come
//! from the database's clock.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};

use crate::log::{ClusterEra, Entering, Era};
use crate::store::backend::DbConnection;

/// A node without a sign of life for so long does not count.
const LIFE: &str = "interval '5 seconds'";

/// A node that has been without the bus for so long comes back by [`enter`], which pubsub makes sure of. In milliseconds.
const AWAY: i64 = 4_000;

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The present era. It is not before the known one: the database may have been restored from a copy.
pub(in crate::store) fn present(
    connection: &mut DbConnection<'_>,
    known: &ClusterEra,
) -> QueryResult<Era> {
    let find = "SELECT era AS number FROM cluster_eras WHERE cluster = $1";
    let postgres = postgres(connection)?;
    let found: Option<Found> = diesel::sql_query(find)
        .bind::<Text, _>(&*known.cluster)
        .get_result(postgres)
        .optional()?;
    if let Some(found) = found.map(|found| Era::new(found.number))
        && found >= known.era
    {
        return Ok(found);
    }
    let raise = "INSERT INTO cluster_eras (cluster, era) VALUES ($1, $2) ON CONFLICT (cluster) \
                 DO UPDATE SET era = greatest(cluster_eras.era, excluded.era) \
                 RETURNING era AS number";
    let raised: Found = diesel::sql_query(raise)
        .bind::<Text, _>(&*known.cluster)
        .bind::<BigInt, _>(known.era.get())
        .get_result(postgres)?;
    Ok(Era::new(raised.number))
}

/// Whether it is this era, and the database gives the order in it or does not. The era does not end before the end of the
/// transaction.
pub(in crate::store) fn holds(
    connection: &mut DbConnection<'_>,
    era: &ClusterEra,
    is_of_database: bool,
) -> QueryResult<bool> {
    let find = "SELECT era AS number FROM cluster_eras WHERE cluster = $1 FOR SHARE";
    let found: Option<Found> = diesel::sql_query(find)
        .bind::<Text, _>(&*era.cluster)
        .get_result(postgres(connection)?)
        .optional()?;
    let present = Era::new(found.map_or(0, |found| found.number));
    Ok(present == era.era && present.is_of_database() == is_of_database)
}

/// Notes that a node comes to the bus. Returns the present era.
pub(in crate::store) fn enter(
    connection: &mut DbConnection<'_>,
    node: &Entering,
    known: &ClusterEra,
) -> QueryResult<Era> {
    connection.transaction(|connection| {
        present(connection, known)?;
        let era = lock(connection, &known.cluster)?;
        let enter = "INSERT INTO servers (id, name, cluster, bus_up, entrances, seen_at) \
                     VALUES ($1, $2, $3, TRUE, $4, clock_timestamp()) \
                     ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, bus_up = TRUE, \
                     bus_away_ms = 0, entrances = excluded.entrances";
        diesel::sql_query(enter)
            .bind::<BigInt, _>(node.node)
            .bind::<Text, _>(&node.name)
            .bind::<Text, _>(&*known.cluster)
            .bind::<BigInt, _>(node.entrances)
            .execute(postgres(connection)?)?;
        Ok(era)
    })
}

/// Ends an era, if it is the present one and the living nodes allow it. Returns the present era.
pub(in crate::store) fn end(
    connection: &mut DbConnection<'_>,
    era: &ClusterEra,
    patient: bool,
) -> QueryResult<Era> {
    let against = if era.era.is_of_database() {
        "NOT bus_up AND $2".to_owned()
    } else {
        format!("bus_up OR bus_away_ms < {AWAY} OR (behind AND $2)")
    };
    connection.transaction(|connection| {
        let present = lock(connection, &era.cluster)?;
        if present != era.era {
            return Ok(present);
        }
        // A statement of its own, so that it sees what nodes have written that had the lock before.
        let count = format!(
            "SELECT count(*) AS number FROM servers WHERE cluster = $1 \
             AND seen_at > clock_timestamp() - {LIFE} AND ({against})"
        );
        let against: Found = diesel::sql_query(count)
            .bind::<Text, _>(&*era.cluster)
            .bind::<Bool, _>(patient)
            .get_result(postgres(connection)?)?;
        if against.number > 0 {
            return Ok(present);
        }
        let next =
            "UPDATE cluster_eras SET era = era + 1 WHERE cluster = $1 RETURNING era AS number";
        let next: Found = diesel::sql_query(next)
            .bind::<Text, _>(&*era.cluster)
            .get_result(postgres(connection)?)?;
        Ok(Era::new(next.number))
    })
}

/// The present era, which nobody else changes or enters until the end of the transaction.
fn lock(connection: &mut DbConnection<'_>, cluster: &str) -> QueryResult<Era> {
    let find = "SELECT era AS number FROM cluster_eras WHERE cluster = $1 FOR UPDATE";
    let found: Option<Found> = diesel::sql_query(find)
        .bind::<Text, _>(cluster)
        .get_result(postgres(connection)?)
        .optional()?;
    Ok(Era::new(found.map_or(0, |found| found.number)))
}

/// Only PostgreSQL is shared by several servers.
fn postgres<'a>(connection: &'a mut DbConnection<'_>) -> QueryResult<&'a mut PgConnection> {
    super::order::postgres(connection)
}
