//! Jobs of another pool on nodes that are lent to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::command::NewJob;
use muster_core::shape::Shape;

use crate::site::{Player, Site, job};

/// A job of a pool and class.
fn of(line: u64, pool: &str, class: &str) -> NewJob {
    let (pool, class) = (pool.into(), class.into());
    let shape = Shape { pool, class, ..(*job(line).shape).clone() };
    NewJob { shape: Arc::new(shape), ..job(line) }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_pool_that_borrows_run_on_what_is_idle_until_it_is_needed_at_home() {
    let site = Site::start(1).await;
    // One that may run at most once could not be asked to leave, nor one of its class.
    let once = NewJob { at_most_once: true, ..of(0, "borrower", "filler") };
    let mut away = vec![once, of(1, "borrower", "urgent")];
    away.extend((2..6).map(|line| of(line, "borrower", "filler")));
    away.push(of(6, "elsewhere", "filler"));
    let away = site.submit("q", "set", 1, away).await;
    let mut player = Player::new(&site, 4);
    let mut leased = BTreeSet::new();
    while leased.len() < 4 {
        leased.extend(player.leases(10).await.leases.into_iter().map(|run| run.job));
    }
    assert_eq!(leased, away[2..6].iter().copied().collect());
    player.has(0, 0);
    // A job at home, of the lowest class that there is, has the youngest of them leave.
    let home = site.submit("q", "set", 2, vec![of(0, "default", "filler")]).await;
    let mut stops = BTreeSet::new();
    for _ in 0..12 {
        let answer = player.ask(10, Duration::from_secs(5)).await.unwrap();
        stops.extend(answer.stops.into_iter().map(|(job, _)| job));
        assert!(answer.leases.is_empty());
        if !stops.is_empty() {
            break;
        }
    }
    assert_eq!(stops, BTreeSet::from([away[5].to_string()]));
    player.has(1, 0);
    let given = player.leases(10).await.leases;
    assert_eq!(given.iter().map(|run| run.job).collect::<Vec<_>>(), home);
    player.has(0, 0);
    let answer = player.ask(10, Duration::from_secs(5)).await.unwrap();
    assert!(answer.leases.is_empty() && answer.stops.is_empty(), "{answer:?}");
    assert_eq!(site.counts("q", "set").await["queued"], 4);
}
