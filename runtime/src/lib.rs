//! What every process of Muster stands on: the bus, the object-store log, time, randomness, tasks,
//! settings, telemetry. It decides nothing about jobs; decisions live in `muster-core`.

pub mod blocking;
pub mod bus;
pub mod clock;
pub mod codec;
pub mod collect;
pub mod config;
pub mod history;
pub mod http;
pub mod log;
pub mod metrics;
pub mod open_files;
pub mod owners;
pub mod random;
pub mod retry;
pub mod rounds;
pub mod signal;
pub mod store;
pub mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verify;

pub use blocking::Blocking;
pub use bus::Bus;
pub use clock::Clock;
pub use metrics::Metrics;
pub use random::Random;
pub use tasks::Supervisor;
