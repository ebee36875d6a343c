//! Everything that needs a server: one binary, one module for each area of behaviour.

#[cfg(feature = "acme")]
mod acme;
mod admission;
mod api;
mod api_operations;
mod api_refusals;
mod away;
mod backup;
mod bans;
mod channel_api;
mod chat;
mod cli;
mod client_commands;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster_apart;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster_bridge;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster_faults;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster_nats;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster_outage;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster_recovery;
#[cfg(all(feature = "redis", feature = "nats", feature = "postgres"))]
mod cluster_strict;
mod compression;
mod config_file;
mod configuration;
mod conformance;
mod connect;
mod crashes;
mod damage;
mod dashboard;
mod dashboard_audit;
mod dashboard_work;
mod directed;
mod endings;
mod erase;
mod expiry;
mod export;
mod faults;
#[cfg(all(feature = "load", target_os = "linux"))]
mod floor;
mod frames;
mod frontends;
mod frontends_page;
mod handshakes;
mod hanging_up;
mod hook;
mod hook_connect;
mod hook_failures;
mod hostile;
mod identity_jwt;
mod inspect;
mod kills;
mod limits;
#[cfg(all(feature = "load", target_os = "linux"))]
mod load;
mod logging;
mod longpoll;
mod longpoll_answers;
mod longpoll_delivery;
mod metrics;
mod metrics_counts;
mod older;
mod order;
mod pages;
mod permit;
mod plug_session;
#[cfg(feature = "postgres")]
mod postgres;
mod presence;
mod presence_grace;
mod random_rooms;
mod rates;
mod reload;
mod reload_operators;
mod replay;
mod replies;
mod restart;
mod restore;
mod resume;
mod resume_exact;
mod retention;
mod revocation;
mod room_limits;
mod rooms_command;
mod service;
mod serving;
mod siblings;
mod slow_mode;
mod socket_rules;
mod spool;
mod store;
mod support;
mod tables;
mod takeover;
mod testing;
mod timers;
mod tls;
mod told;
#[cfg(feature = "otel")]
mod traces;
mod unfinished;
mod writer;
