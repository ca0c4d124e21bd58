//! The deployment as a whole, and the orchestrator that starts processes again which ended.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use muster_runtime::Supervisor;
use tokio::time::Instant;

use crate::faults::Peer;
use crate::history::History;
use crate::process::{Process, RESTART_DELAY, Role, Site};

/// How often the orchestrator looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What clients, nemesis and checker share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) site: Site,
    pub(crate) history: History,
    processes: Arc<Mutex<Vec<Slot>>>,
    /// When clients stop, by the simulated time.
    pub(crate) until: Instant,
}

/// A process and what the nemesis has in mind for it.
pub(crate) struct Slot {
    pub(crate) process: Process,
    /// It is not started again before the nemesis says so.
    pub(crate) is_held_down: bool,
    /// It is never started again.
    pub(crate) is_gone: bool,
    ended_at: Option<Instant>,
}

impl Shared {
    pub(crate) fn new(site: Site, until: Instant) -> Self {
        let plan = Arc::clone(&site.plan);
        let roles = [
            (Role::Worker, plan.workers),
            (Role::Gateway, plan.gateways),
            (Role::Executor, plan.executors),
        ];
        let mut slots = Vec::new();
        for (role, count) in roles {
            for number in 0..count {
                let peer = Peer(u16::try_from(slots.len()).expect("there are few"));
                let process = Process::new(site.clone(), role, number, peer);
                slots.push(Slot { process, is_held_down: false, is_gone: false, ended_at: None });
            }
        }
        let processes = Arc::new(Mutex::new(slots));
        Self { site, history: History::default(), processes, until }
    }

    pub(crate) fn processes(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.processes.lock().expect("no code panics while it holds this lock")
    }

    pub(crate) fn start_all(&self) {
        for slot in self.processes().iter_mut() {
            slot.process.start();
        }
    }

    /// A gateway's router, if it lives; `number` counts round.
    pub(crate) fn serving(&self, number: usize) -> Option<(Router, Supervisor)> {
        let processes = self.processes();
        let gateways = processes.iter().filter(|slot| slot.process.role == Role::Gateway);
        gateways.cycle().nth(number)?.process.serving()
    }

    /// Starts what has ended again, for ever.
    pub(crate) async fn orchestrate(self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = Instant::now();
            for slot in self.processes().iter_mut() {
                if slot.process.is_alive() || slot.is_held_down || slot.is_gone {
                    slot.ended_at = None;
                    continue;
                }
                let ended_at = *slot.ended_at.get_or_insert(now);
                if now.duration_since(ended_at) >= RESTART_DELAY {
                    slot.ended_at = None;
                    slot.process.start();
                }
            }
        }
    }

    /// Whether clients still begin something.
    pub(crate) fn is_busy(&self) -> bool {
        Instant::now() < self.until
    }

    /// The simulated time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.site.began.elapsed()
    }
}
