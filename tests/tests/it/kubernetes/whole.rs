//! The whole thing, small; `muster-chaos kubernetes` runs it with 20,000 jobs.

use muster_tests::whole::{Options, run};

use crate::deployment::TURN;

#[tokio::test]
async fn five_queues_share_two_clusters_of_which_one_goes_and_comes_and_the_other_goes() {
    // A cluster that was given cannot be taken away.
    if std::env::var_os("MUSTER_TEST_KUBECONFIG").is_some() {
        return;
    }
    let _turn = TURN.lock().await;
    let report = run(Options { jobs: 300 }, |_| {}).await.unwrap();
    assert!(report.passed(), "{}", report.text());
    assert_eq!(report.jobs, 300);
}
