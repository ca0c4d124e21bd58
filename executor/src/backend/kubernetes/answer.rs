//! What the API server's answers mean for a run, and for the pace. Without IO.

use std::time::Duration;

use kube::core::Status;
use muster_api::bus::RunStatus;

use super::pace::Answer;

/// How the creation of a pod went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Creation {
    /// It is there.
    Created,
    /// There is one of its name.
    Exists,
    /// There is no such namespace.
    NoNamespace(String),
    /// It may go better another time.
    Later {
        /// What was said.
        message: String,
        /// Whether it is for what this pod is, so that it cannot be waited for without end.
        is_of_pod: bool,
        /// Whether it may be there all the same.
        may_exist: bool,
    },
    /// It will not; how the run ends.
    Refused { status: RunStatus, reason: &'static str, message: String },
}

/// What an answer says of the pace.
pub(super) fn pace<T>(result: &Result<T, kube::Error>) -> Answer {
    match result {
        Ok(_) => Answer::Well,
        Err(kube::Error::Api(status)) => match status.code {
            429 => Answer::TooMany(retry_after(status)),
            500.. => Answer::Trouble,
            _ => Answer::Well,
        },
        Err(_) => Answer::Trouble,
    }
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref().map(|details| details.retry_after_seconds);
    seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
}

/// What the answer to the creation of a pod says of it.
pub(super) fn creation<T>(result: &Result<T, kube::Error>) -> Creation {
    let status = match result {
        Ok(_) => return Creation::Created,
        Err(kube::Error::Api(status)) => status,
        Err(error) => return later(error.to_string(), false, true),
    };
    let message = status.message.clone();
    let refused = |status, reason| Creation::Refused { status, reason, message: message.clone() };
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => Creation::Exists,
        (404, _) if message.starts_with("namespaces ") => Creation::NoNamespace(message),
        (403, _) if message.contains("being terminated") => Creation::NoNamespace(message),
        // Room in a quota may come.
        (403, _) if message.contains("exceeded quota") => later(message, true, false),
        // It is the executor that may not, whatever the job.
        (403, _) if message.contains(" cannot ") => later(message, true, false),
        (400 | 403 | 413 | 422, _) => refused(RunStatus::Failed, "Rejected"),
        // A webhook that does not answer, perhaps.
        (500, _) => later(message, true, true),
        (502.., _) => later(message, false, true),
        // Too many requests, tokens that ran out.
        (401 | 429, _) => later(message, false, false),
        // A quota was changed at the same time, and whatever else there may be.
        _ => later(message, true, false),
    }
}

fn later(message: String, is_of_pod: bool, may_exist: bool) -> Creation {
    Creation::Later { message, is_of_pod, may_exist }
}

/// How a run ends whose pod was refused, for reasons that may pass, for too long.
pub(super) fn given_up(message: &str) -> (RunStatus, &'static str) {
    // What the namespace has no room for, or the executor no rights to, no other node has.
    if message.contains("exceeded quota") {
        (RunStatus::Failed, "QuotaExceeded")
    } else if message.contains(" cannot ") {
        (RunStatus::Failed, "Forbidden")
    } else {
        (RunStatus::Returned, "NotCreated")
    }
}

/// Whether a pod that was to be removed is not there any more, or is another one of its name.
pub(super) fn is_gone<T>(result: &Result<T, kube::Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(kube::Error::Api(status)) => status.code == 404 || status.code == 409,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, reason: &str, message: &str) -> Result<(), kube::Error> {
        let status = Status::failure(message, reason).with_code(code);
        Err(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn refusals_fail_the_job_or_are_tried_again() {
        let failed = |message: &str| Creation::Refused {
            status: RunStatus::Failed,
            reason: "Rejected",
            message: message.to_owned(),
        };
        let later = |message: &str, is_of_pod, may_exist| {
            super::later(message.to_owned(), is_of_pod, may_exist)
        };
        let missing = |message: &str| Creation::NoNamespace(message.to_owned());
        let cases = [
            (409, "AlreadyExists", "pods \"a\" already exists", Creation::Exists),
            (409, "Conflict", "the quota was changed", later("the quota was changed", true, false)),
            (404, "NotFound", "namespaces \"x\" not found", missing("namespaces \"x\" not found")),
            (
                403,
                "Forbidden",
                "pods \"a\" is forbidden: violates PodSecurity",
                failed("pods \"a\" is forbidden: violates PodSecurity"),
            ),
            (
                403,
                "Forbidden",
                "pods \"a\" is forbidden: exceeded quota: q",
                later("pods \"a\" is forbidden: exceeded quota: q", true, false),
            ),
            (
                403,
                "Forbidden",
                "User \"x\" cannot create resource \"pods\"",
                later("User \"x\" cannot create resource \"pods\"", true, false),
            ),
            (
                403,
                "Forbidden",
                "unable to create new content in namespace x because it is being terminated",
                missing(
                    "unable to create new content in namespace x because it is being terminated",
                ),
            ),
            (
                400,
                "BadRequest",
                "admission webhook \"w\" denied the request: no",
                failed("admission webhook \"w\" denied the request: no"),
            ),
            (422, "Invalid", "Pod \"a\" is invalid", failed("Pod \"a\" is invalid")),
            (429, "TooManyRequests", "slow down", later("slow down", false, false)),
            (
                500,
                "InternalError",
                "failed calling webhook",
                later("failed calling webhook", true, true),
            ),
            (401, "Unauthorized", "Unauthorized", later("Unauthorized", false, false)),
        ];
        for (code, reason, message, expected) in cases {
            assert_eq!(creation(&refusal(code, reason, message)), expected, "{code} {message}");
        }
        assert_eq!(creation(&Ok(())), Creation::Created);
    }

    #[test]
    fn too_many_requests_and_errors_of_the_server_tell_of_the_pace() {
        let of = |code| pace(&refusal(code, "", ""));
        assert_eq!(
            (of(429), of(503), of(422)),
            (Answer::TooMany(None), Answer::Trouble, Answer::Well)
        );
        let text = r#"{"code":429,"details":{"retryAfterSeconds":7}}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        let answer: Result<(), _> = Err(kube::Error::Api(status.boxed()));
        assert_eq!(pace(&answer), Answer::TooMany(Some(Duration::from_secs(7))));
    }
}
