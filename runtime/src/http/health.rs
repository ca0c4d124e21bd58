//! Whether a process lives, whether it can do its work, and what it counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use muster_api::http::{ErrorCode, Problem};

use super::problem::respond;
use crate::bus::Bus;
use crate::metrics::{self, Metrics};

const OK: &str = "{\"status\":\"ok\"}";
/// The part that every process has.
const BUS: &str = "bus";
const NOT_CONNECTED: &str = "is not connected";

/// Whether a process can do its work: it can when each part that was named is ready, and it is not
/// about to stop. Clones are the same one.
#[derive(Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_draining: AtomicBool,
    parts: Mutex<BTreeMap<String, Part>>,
}

enum Part {
    Ready,
    NotReady(String),
    Asked(Box<dyn Fn() -> Result<(), String> + Send>),
}

impl Health {
    /// No parts: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This part can do its work.
    pub fn ready(&self, part: &str) {
        self.put(part, Part::Ready);
    }

    /// This part cannot do its work (yet), and why.
    pub fn not_ready(&self, part: &str, why: impl Into<String>) {
        self.put(part, Part::NotReady(why.into()));
    }

    /// This part is asked each time.
    pub fn ask(&self, part: &str, probe: impl Fn() -> Result<(), String> + Send + 'static) {
        self.put(part, Part::Asked(Box::new(probe)));
    }

    /// The bus is a part: ready as long as it is connected.
    pub fn follow_bus(&self, bus: &Arc<dyn Bus>) {
        let bus = Arc::clone(bus);
        self.ask(BUS, move || {
            bus.is_connected().then_some(()).ok_or_else(|| NOT_CONNECTED.to_owned())
        });
    }

    /// The bus is a part that is not connected yet.
    pub fn await_bus(&self) {
        self.not_ready(BUS, NOT_CONNECTED);
    }

    /// The process is about to stop: it is not ready from now on.
    pub fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
    }

    /// Whether the process can do its work.
    ///
    /// # Errors
    /// When it cannot: every part that is not ready, and why.
    pub fn readiness(&self) -> Result<(), String> {
        if self.shared.is_draining.load(Ordering::Acquire) {
            return Err("the process is about to stop".to_owned());
        }
        let parts = self.shared.parts.lock().expect("nobody panics while holding it");
        let reasons = parts.iter().filter_map(|(name, part)| {
            let why = match part {
                Part::Ready => return None,
                Part::NotReady(why) => why.clone(),
                Part::Asked(probe) => probe().err()?,
            };
            Some(format!("{name}: {why}"))
        });
        let reasons: Vec<String> = reasons.collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }

    fn put(&self, name: &str, part: Part) {
        let mut parts = self.shared.parts.lock().expect("nobody panics while holding it");
        parts.insert(name.to_owned(), part);
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.readiness()).finish()
    }
}

/// `GET /health/live`: the process answers.
pub fn live() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OK).into_response()
}

/// `GET /health/ready`: the process can do its work; otherwise 503 with every reason.
pub fn ready(health: &Health) -> Response {
    match health.readiness() {
        Ok(()) => live(),
        Err(reasons) => respond(&Problem::new(ErrorCode::Unavailable, reasons)),
    }
}

/// `GET /metrics`: what the process counts.
pub fn metrics(metrics: &Metrics) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_part_is_and_never_again_while_it_drains() {
        let health = Health::new();
        assert_eq!(health.readiness(), Ok(()));
        let is_connected = Arc::new(AtomicBool::new(false));
        let connected = Arc::clone(&is_connected);
        health.ask("bus", move || {
            connected.load(Ordering::Relaxed).then_some(()).ok_or_else(|| "is away".to_owned())
        });
        health.not_ready("shard", "is not registered");
        let both = "bus: is away; shard: is not registered".to_owned();
        assert_eq!(health.readiness(), Err(both));
        is_connected.store(true, Ordering::Relaxed);
        health.clone().ready("shard");
        assert_eq!(health.readiness(), Ok(()));
        assert_eq!(ready(&health).status(), 200);
        health.drain();
        health.ready("shard");
        assert_eq!(health.readiness(), Err("the process is about to stop".to_owned()));
        let response = ready(&health);
        assert_eq!((response.status().as_u16(), live().status().as_u16()), (503, 200));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
