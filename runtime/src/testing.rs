//! What tests of several crates share: the contract that every [`Bus`](crate::Bus) keeps, and a
//! NATS server to hold the real adapter to it.

mod bus_contract;
mod nats_server;

pub use bus_contract::bus_contract;
pub use nats_server::NatsServer;
