//! Who a client is, and which proxies may say so. No I/O, no HTTP.

mod address;

pub use self::address::{ClientAddress, InvalidProxy, TrustedProxies};
