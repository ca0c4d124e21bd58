//! Which commands of a submission were answered: one with jobs that depend on others goes out when
//! all before it are, for it may name their jobs.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// The commands of a submission by their places.
pub(super) struct Before {
    answered: watch::Sender<Answered>,
}

#[derive(Default)]
struct Answered {
    /// All before this one are.
    next: usize,
    /// Those behind it that are.
    ahead: BTreeSet<usize>,
}

impl Default for Before {
    fn default() -> Self {
        Self { answered: watch::Sender::new(Answered::default()) }
    }
}

impl Before {
    /// Waits until every command before that one was answered.
    pub(super) async fn wait_for(&self, place: usize) {
        let mut answered = self.answered.subscribe();
        let done = answered.wait_for(|answered| answered.next >= place).await;
        done.expect("the sender is held here");
    }

    /// That command was answered.
    pub(super) fn done(&self, place: usize) {
        self.answered.send_modify(|answered| {
            answered.ahead.insert(place);
            while answered.ahead.remove(&answered.next) {
                answered.next += 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_command_waits_for_all_before_it_in_whatever_order_they_are_answered() {
        let before = Before::default();
        assert!(before.wait_for(0).now_or_never().is_some());
        before.done(2);
        before.done(1);
        assert!(before.wait_for(3).now_or_never().is_none());
        before.done(0);
        assert!(before.wait_for(3).now_or_never().is_some());
        assert!(before.wait_for(4).now_or_never().is_none());
    }
}
