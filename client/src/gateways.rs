//! The gateways of a deployment: which of them is asked, and when the next one is. They hold
//! nothing of their own, so any of them goes on with what another one began.

use std::sync::atomic::{AtomicUsize, Ordering};

use url::Url;

use crate::Error;

/// The gateways, of which one is asked until it fails. Its users share what they learn of it.
#[derive(Debug)]
pub(crate) struct Gateways {
    bases: Vec<Url>,
    current: AtomicUsize,
}

/// One call's way past failures: from gateway to gateway, and around again after a pause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempts {
    /// Who is asked next.
    pub(crate) gateway: usize,
    /// How often every gateway that could be asked had failed.
    rounds: u32,
    /// Gateways that failed since.
    failed: usize,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next gateway is asked at once.
    Elsewhere,
    /// All have failed so often: there is a pause before the next round.
    Round(u32),
}

/// What is asked for, below the base URL of any gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    path: Vec<String>,
    query: Vec<(String, String)>,
}

impl Gateways {
    /// Takes base URLs that are separated by commas.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bases = text.split(',').map(|base| base_url(base.trim())).collect::<Result<_, _>>()?;
        Ok(Self { bases, current: AtomicUsize::new(0) })
    }

    /// The base URL of the one that is asked.
    pub(crate) fn base(&self) -> &Url {
        &self.bases[self.current()]
    }

    /// Where a gateway is asked for a target.
    pub(crate) fn url(&self, gateway: usize, target: &Target) -> Url {
        let mut url = self.bases[gateway].clone();
        url.path_segments_mut()
            .expect("HTTP URLs have a path")
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(&target.path);
        if !target.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&target.query);
        }
        url
    }

    /// The attempts of a call that begins.
    pub(crate) fn attempts(&self) -> Attempts {
        Attempts { gateway: self.current(), rounds: 0, failed: 0 }
    }

    /// Has the next one asked from now on, unless another call has seen to that already.
    pub(crate) fn leave(&self, gateway: usize) {
        let next = (gateway + 1) % self.bases.len();
        // It fails where the gateway was left before, which is as well.
        let _ = self.current.compare_exchange(gateway, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes that a gateway failed its call, and that another one may do better.
    pub(crate) fn failed(&self, attempts: &mut Attempts) -> Next {
        self.leave(attempts.gateway);
        attempts.gateway = self.current();
        attempts.failed += 1;
        if attempts.failed < self.bases.len() {
            return Next::Elsewhere;
        }
        attempts.round()
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }
}

impl Attempts {
    /// Notes that the call failed, and that no other gateway would do better.
    pub(crate) fn round(&mut self) -> Next {
        self.failed = 0;
        self.rounds += 1;
        Next::Round(self.rounds)
    }

    /// Notes that the gateway answers.
    pub(crate) fn succeeded(&mut self) {
        (self.rounds, self.failed) = (0, 0);
    }
}

impl Target {
    pub(crate) fn new(path: &[&str], query: &[(&str, &str)]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self { path, query: query.iter().map(pair).collect() }
    }
}

fn base_url(text: &str) -> Result<Url, Error> {
    let fail = |reason: String| Error::BadUrl { url: text.to_owned(), reason };
    let url = Url::parse(text).map_err(|error| fail(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(fail("it does not begin with `http://HOST`".to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

    use super::*;

    #[test]
    fn every_gateway_has_the_same_targets_below_its_own_base() {
        let gateways = Gateways::parse("http://a:1, https://b/muster/").unwrap();
        let target = Target::new(&["queues", "q/1"], &[("jobSet", "s t")]);
        let urls = [0, 1].map(|gateway| gateways.url(gateway, &target).to_string());
        assert_eq!(
            urls,
            [
                "http://a:1/api/v1/queues/q%2F1?jobSet=s+t",
                "https://b/muster/api/v1/queues/q%2F1?jobSet=s+t"
            ]
        );
    }

    #[test]
    fn a_list_with_something_else_in_it_is_refused() {
        for (text, bad) in [("", ""), ("http://a,", ""), ("http://a,ftp://b", "ftp://b")] {
            let error = Gateways::parse(text).unwrap_err();
            assert!(matches!(&error, Error::BadUrl { url, .. } if url == bad), "{text}: {error}");
        }
    }

    #[test]
    fn a_round_ends_when_everybody_has_failed() {
        let gateways = Gateways::parse("http://a,http://b,http://c").unwrap();
        let mut attempts = gateways.attempts();
        let mut steps = Vec::new();
        for _ in 0..6 {
            let asked = attempts.gateway;
            steps.push((asked, gateways.failed(&mut attempts)));
        }
        let (next, round) = (Next::Elsewhere, Next::Round);
        assert_eq!(
            steps,
            [(0, next), (1, next), (2, round(1)), (0, next), (1, next), (2, round(2))]
        );
    }

    #[test]
    fn calls_that_fail_together_leave_a_gateway_once() {
        let gateways = Gateways::parse("http://a,http://b,http://c").unwrap();
        let (mut one, mut other) = (gateways.attempts(), gateways.attempts());
        gateways.failed(&mut one);
        gateways.failed(&mut other);
        assert_eq!((one.gateway, other.gateway, gateways.current()), (1, 1, 1));
    }
}
