//! Panics of a seed's thread: whatever panics there, in whatever task, is a finding. A process that
//! lost a task to a panic may go on, or start again, and would else hide it.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes panics from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            SEEN.with_borrow_mut(|seen| seen.push(info.to_string().replace('\n', " ")));
            if !is_quiet() {
                before(info);
            }
        }));
    });
    SEEN.with_borrow_mut(Vec::clear);
}

/// Panics of mutations are meant to happen: they are not printed.
fn is_quiet() -> bool {
    muster_core::mutant::Mutant::ALL.into_iter().any(muster_core::mutant::is)
}

/// What panicked in this thread.
pub(crate) fn take() -> Vec<String> {
    SEEN.take()
}
