//! What every process of Muster stands on: the bus, the object-store log, time, randomness, tasks,
//! settings, telemetry. It decides nothing about jobs; decisions live in `muster-core`.

pub mod blocking;
pub mod bus;
pub mod clock;
pub mod config;
pub mod random;
pub mod retry;
pub mod store;
pub mod tasks;

pub use blocking::Blocking;
pub use bus::Bus;
pub use clock::Clock;
pub use random::Random;
