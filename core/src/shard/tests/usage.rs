//! What runs were seen to use whose cluster is not asked how they ended, by example.

use super::*;
use crate::job::Usage;

fn used(seconds: u64) -> Usage {
    Usage { memory_peak_bytes: seconds << 20, cpu_time_ms: seconds * 1_000 }
}

impl Driven {
    /// The cluster says what a run was seen to use so far.
    fn measured(&mut self, job: JobRef, attempt: u32, seconds: u64) -> Verdict {
        let report = Report {
            job,
            attempt,
            status: RunStatus::Running,
            at: self.now,
            addresses: Vec::new(),
            used: Some(used(seconds)),
        };
        match self.run(Command::Report { cluster: "c".into(), reports: vec![report] }) {
            Outcome::Reported(verdicts) => verdicts[0],
            other => panic!("{other:?}"),
        }
    }

    fn last_usage(&self, job: JobRef) -> Option<Usage> {
        let live = self.shard.job(job).map(|view| view.runs);
        let runs = live.or_else(|| self.shard.finished_of(job).map(|done| done.runs)).unwrap();
        runs.last().unwrap().ended.as_ref().unwrap().1.usage
    }
}

#[test]
fn runs_that_others_end_tell_what_they_were_seen_to_use_so_far() {
    let mut driven = Driven::new();
    let jobs = driven.submit("q", (0..5).map(|line| new_job(line, 1, 0, None)).collect(), None);
    for _ in &jobs {
        driven.now = Timestamp(driven.now.0 + 1_000);
        driven.lease("q", 1, 1);
    }
    for (job, seconds) in jobs.iter().zip(1..5) {
        assert_eq!(driven.measured(*job, 1, seconds), Verdict::Taken);
    }
    let before = driven.written();
    assert_eq!(driven.measured(jobs[0], 1, 9), Verdict::Taken);
    assert_eq!(driven.measured(jobs[0], 2, 99), Verdict::Stale);
    assert_eq!(driven.written(), before, "it is no record of its own");
    assert_eq!(driven.shard.job(jobs[0]).unwrap().used, Some(used(9)));

    let target = Target::Jobs(vec![jobs[0]]);
    driven.run(Command::Cancel { target, reason: None });
    assert_eq!(driven.last_usage(jobs[0]), Some(used(9)));
    let own = Exit { usage: Some(used(7)), ..Exit::default() };
    driven.report(jobs[1], 1, RunStatus::Succeeded(own));
    assert_eq!(driven.last_usage(jobs[1]), Some(used(7)), "its own end knows more");
    let own = Exit { usage: Some(used(1)), ..Exit::default() };
    driven.report(jobs[2], 1, RunStatus::Failed(own));
    assert_eq!(driven.last_usage(jobs[2]), Some(used(3)), "but may have forgotten some");
    // Of the last one nothing was measured.
    assert_eq!(driven.preempt("q", 1, 2), [(jobs[4], 1), (jobs[3], 1)]);
    assert_eq!((driven.last_usage(jobs[4]), driven.last_usage(jobs[3])), (None, Some(used(4))));
    assert_eq!(driven.shard.job(jobs[3]).unwrap().used, None, "the next run begins anew");

    driven.lease("q", 1, 2);
    driven.measured(jobs[3], 2, 5);
    driven.run(Command::ExpireCluster { cluster: "c".into(), runs_max: 9 });
    assert_eq!(driven.last_usage(jobs[3]), Some(used(5)));
    assert_eq!(picture(&driven.recovered()), picture(&driven.shard));
}
