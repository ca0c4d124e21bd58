//! What cannot be sent is never passed over in silence: it is logged and counted, and whoever waits
//! for an answer that is larger than a message is told so.

use bytes::Bytes;
use muster_api::http::{ErrorCode, Problem};
use muster_runtime::Bus;
use muster_runtime::bus::{Error, ReplyTo};

use crate::metrics::{Metrics, Unsent, UnsentLabels};

/// Answers a request; an answer that is too large is replaced by the problem that it is.
pub(crate) async fn respond(
    bus: &dyn Bus,
    metrics: &Metrics,
    to: &ReplyTo,
    answer: Bytes,
    kind: Unsent,
    refuse: impl FnOnce(Problem) -> Bytes,
) {
    let (bytes, limit) = (answer.len(), bus.payload_bytes_max());
    let answer = if bytes > limit {
        let error = Error::PayloadTooLarge { bytes, limit };
        unsent(metrics, kind, &error);
        let detail = format!("the answer has {bytes} bytes on the bus, limit is {limit}");
        refuse(Problem::new(ErrorCode::PayloadTooLarge, detail))
    } else {
        answer
    };
    // Whoever hears nothing asks again, a change under the same id.
    if let Err(error) = bus.respond(to, answer).await {
        unsent(metrics, kind, &error);
    }
}

/// Something was not sent.
pub(crate) fn unsent(metrics: &Metrics, kind: Unsent, error: &Error) {
    metrics.unsent.get_or_create(&UnsentLabels { kind }).inc();
    tracing::warn!(?kind, %error, "a message was not sent");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_api::bus::{ShardReply, decode, encode};
    use muster_runtime::bus::memory::Memory;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_too_large_for_a_message_is_an_error_that_the_asker_sees() {
        let bus = Memory::default();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let mut requests = bus.subscribe("question", None).await.unwrap();
        let asked = bus.request("question", Bytes::new(), Duration::from_secs(5));
        let answered = async {
            let to = requests.next().await.unwrap().reply.unwrap();
            let answer = Bytes::from(vec![0; bus.payload_bytes_max() + 1]);
            let refuse = |problem| encode(&ShardReply::Error(problem));
            respond(&bus, &metrics, &to, answer, Unsent::Reply, refuse).await;
        };
        let (answer, ()) = tokio::join!(asked, answered);
        let ShardReply::Error(problem) = decode(&answer.unwrap()).unwrap() else { panic!() };
        assert_eq!(problem.code, ErrorCode::PayloadTooLarge);
        assert_eq!(problem.detail, "the answer has 1044481 bytes on the bus, limit is 1044480");
        let labels = UnsentLabels { kind: Unsent::Reply };
        assert_eq!(metrics.unsent.get_or_create(&labels).get(), 1);
    }
}
