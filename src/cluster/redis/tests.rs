//! Tests of the Redis adapter with real servers and connections that are cut. They need `redis-server`.

mod cuts;
mod doubt;
mod engine;
mod examine;
mod order;
mod sequencer;
mod speed;
mod support;

pub(in crate::cluster) use self::engine::Redis;
