//! A gate that all tasks of a simulated process pass at each turn: open, shut for a while (the
//! process is stopped and knows nothing of it), or shut for good (the process was killed).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Lets the tasks of one process have their turns, or not. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    next_id: u64,
    /// Turns until all tasks are dropped, if that has been decided.
    turns_left: Option<u64>,
    /// How to wake each task that waits.
    wakers: BTreeMap<u64, Waker>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Open,
    Frozen,
    Killed,
}

impl Gate {
    /// No task has another turn until [`Gate::thaw`], as after SIGSTOP: messages and timers wait.
    pub fn freeze(&self) {
        self.change(Mode::Frozen);
    }

    /// Tasks go on where they were, as after SIGCONT.
    pub fn thaw(&self) {
        self.change(Mode::Open);
    }

    /// All tasks are dropped where they stand, as after SIGKILL.
    pub fn kill(&self) {
        self.change(Mode::Killed);
    }

    /// As [`Gate::kill`], but after so many more turns of the tasks: at any of the places where
    /// they wait, also where no time passes.
    pub fn kill_after(&self, turns: u64) {
        self.lock().turns_left = Some(turns);
    }

    /// Whether the tasks were killed.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.lock().mode == Mode::Killed
    }

    fn change(&self, mode: Mode) {
        let mut state = self.lock();
        if state.mode != Mode::Killed {
            state.mode = mode;
        }
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    pub(super) fn pass<F: Future<Output = ()>>(self, work: F) -> impl Future<Output = ()> {
        let mut state = self.lock();
        state.next_id += 1;
        let id = state.next_id;
        drop(state);
        Passing { gate: self, id, work: Some(Box::pin(work)) }
    }

    /// A task wants a turn.
    fn turn(&self, id: u64, waker: &Waker) -> Mode {
        let mut state = self.lock();
        state.wakers.insert(id, waker.clone());
        if state.mode == Mode::Open
            && let Some(left) = &mut state.turns_left
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                drop(state);
                self.kill();
                return Mode::Killed;
            }
        }
        state.mode
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

/// A task behind the gate.
struct Passing<F> {
    gate: Gate,
    id: u64,
    /// `None` once it was killed.
    work: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()>> Future for Passing<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<()> {
        let mode = self.gate.turn(self.id, ctx.waker());
        let turn = match (mode, &mut self.work) {
            (Mode::Open, Some(work)) => work.as_mut().poll(ctx),
            (Mode::Frozen, Some(_)) => Poll::Pending,
            (Mode::Killed, _) | (_, None) => Poll::Ready(()),
        };
        if turn.is_ready() {
            self.work = None;
            self.gate.lock().wakers.remove(&self.id);
        }
        turn
    }
}
