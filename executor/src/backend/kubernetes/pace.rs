//! How many requests may be under way: as many as the API server takes well.
//!
//! A window that grows while answers come well and shrinks when they do not: it doubles each round
//! until the first trouble, then grows by one a round. Trouble is "too many requests", an error of
//! the server, or answers that take several times as long as they did. It shrinks at most once a
//! round: what was sent before the server complained says nothing of what it thinks of the smaller
//! window.

use std::time::Duration;

/// The window at the start.
const WINDOW_FIRST: f64 = 8.0;
/// What is left of the window after "too many requests" or an error.
const SHRINK: f64 = 0.5;
/// What is left of it after slow answers.
const SHRINK_SLOW: f64 = 0.8;
/// Answers that take so many times as long as the quickest are slow …
const SLOW_FACTOR: u32 = 8;
/// … if they take at least this long.
const SLOW_MIN: Duration = Duration::from_millis(250);
/// By how much the notion of the quickest answer is raised with each answer: a server that has
/// become slower for good is believed after a while.
const FORGET: f64 = 1.001;
/// How long everything waits after "too many requests" that names no time.
const WAIT_DEFAULT: Duration = Duration::from_secs(1);
/// How long everything waits after trouble with one request at a time: the server may be away.
const WAIT_AWAY: Duration = Duration::from_millis(500);
/// The longest wait that a server can ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What the API server made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done, or refused for what it says.
    Well,
    /// There are too many; how long to wait, if it said so.
    TooMany(Option<Duration>),
    /// It failed, or did not answer.
    Trouble,
}

/// The window.
#[derive(Debug)]
pub(super) struct Pace {
    window: f64,
    window_max: f64,
    is_slow_start: bool,
    in_flight: usize,
    /// Requests sent so far.
    sent: u64,
    /// Only requests after this one may shrink the window.
    shrunk_at: u64,
    quickest: Option<Duration>,
    /// Nothing is sent before.
    wait_until: Duration,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    number: u64,
    at: Duration,
}

impl Pace {
    /// At most `most` at a time.
    pub(super) fn new(most: usize) -> Self {
        let window_max = u32::try_from(most.max(1)).map_or(f64::MAX, f64::from);
        Self {
            window: WINDOW_FIRST.min(window_max),
            window_max,
            is_slow_start: true,
            in_flight: 0,
            sent: 0,
            shrunk_at: 0,
            quickest: None,
            wait_until: Duration::ZERO,
        }
    }

    /// How many may be under way.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small and above 0"
    )]
    pub(super) fn window(&self) -> usize {
        self.window as usize
    }

    /// Takes a place in the window, if there is one.
    pub(super) fn begin(&mut self, now: Duration) -> Option<Ticket> {
        if now < self.wait_until || self.in_flight >= self.window() {
            return None;
        }
        self.in_flight += 1;
        self.sent += 1;
        Some(Ticket { number: self.sent, at: now })
    }

    /// Gives a place back that is not needed.
    pub(super) fn give_back(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// When something may be sent, if only time is wanting.
    pub(super) fn wakes_at(&self, now: Duration) -> Option<Duration> {
        (now < self.wait_until).then_some(self.wait_until)
    }

    /// An answer came.
    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match answer {
            Answer::Well => self.well(ticket, now.saturating_sub(ticket.at)),
            Answer::Trouble => {
                if self.window() == 1 {
                    self.wait_until = self.wait_until.max(now + WAIT_AWAY);
                }
                self.shrink(ticket, SHRINK);
            }
            Answer::TooMany(wait) => {
                let wait = wait.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
                self.wait_until = self.wait_until.max(now + wait);
                self.shrink(ticket, SHRINK);
            }
        }
    }

    fn well(&mut self, ticket: Ticket, took: Duration) {
        let quickest = self.quickest.map_or(took, |known| known.mul_f64(FORGET).min(took));
        self.quickest = Some(quickest);
        if took >= SLOW_MIN && took > quickest * SLOW_FACTOR {
            self.shrink(ticket, SHRINK_SLOW);
            return;
        }
        let more = if self.is_slow_start { 1.0 } else { 1.0 / self.window };
        self.window = (self.window + more).min(self.window_max);
    }

    fn shrink(&mut self, ticket: Ticket, to: f64) {
        if ticket.number <= self.shrunk_at {
            return;
        }
        self.is_slow_start = false;
        self.window = (self.window * to).max(1.0);
        self.shrunk_at = self.sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(5);

    /// A full window of requests, answered alike.
    fn round(pace: &mut Pace, now: &mut Duration, took: Duration, answer: Answer) -> usize {
        let tickets: Vec<Ticket> = std::iter::from_fn(|| pace.begin(*now)).collect();
        *now += took;
        tickets.iter().for_each(|ticket| pace.answered(*ticket, answer, *now));
        tickets.len()
    }

    #[test]
    fn the_window_doubles_until_the_first_trouble_and_then_grows_by_one() {
        let (mut pace, mut now) = (Pace::new(1000), Duration::ZERO);
        let rounds: Vec<usize> =
            (0..4).map(|_| round(&mut pace, &mut now, QUICK, Answer::Well)).collect();
        assert_eq!(rounds, [8, 16, 32, 64]);
        round(&mut pace, &mut now, QUICK, Answer::Trouble);
        assert_eq!(pace.window(), 64, "128 requests fail, and the window is halved once");
        round(&mut pace, &mut now, QUICK, Answer::Well);
        assert_eq!(pace.window(), 64 + 1 - 1, "a little less than one for a round");
        round(&mut pace, &mut now, QUICK, Answer::Well);
        assert_eq!(pace.window(), 65);
    }

    #[test]
    fn nothing_is_sent_before_the_time_that_the_server_names() {
        let (mut pace, mut now) = (Pace::new(100), Duration::ZERO);
        let wait = Duration::from_secs(3);
        assert_eq!(round(&mut pace, &mut now, QUICK, Answer::TooMany(Some(wait))), 8);
        assert_eq!(pace.wakes_at(now), Some(QUICK + wait));
        assert!(pace.begin(now + wait - QUICK).is_none());
        now += wait;
        assert_eq!(round(&mut pace, &mut now, QUICK, Answer::Well), 4);
        assert_eq!(pace.wakes_at(now), None);
    }

    #[test]
    fn answers_that_have_become_slow_shrink_the_window() {
        let (mut pace, mut now) = (Pace::new(100), Duration::ZERO);
        round(&mut pace, &mut now, QUICK, Answer::Well);
        round(&mut pace, &mut now, Duration::from_secs(1), Answer::Well);
        assert_eq!(pace.window(), 12, "16 is shrunk once");
    }

    #[test]
    fn the_window_stays_between_one_and_its_bound() {
        let (mut pace, mut now) = (Pace::new(20), Duration::ZERO);
        for _ in 0..9 {
            round(&mut pace, &mut now, QUICK, Answer::Well);
        }
        assert_eq!(pace.window(), 20);
        for _ in 0..9 {
            round(&mut pace, &mut now, QUICK, Answer::Trouble);
            now = pace.wakes_at(now).unwrap_or(now);
        }
        assert_eq!(pace.window(), 1);
        assert_eq!(Pace::new(3).window(), 3);
    }
}
