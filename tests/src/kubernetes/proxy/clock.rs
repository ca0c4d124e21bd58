//! What an API server says whose clock is another one: the moments at which objects were made and
//! have to be gone are those that it names by itself.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The fields that hold them, as they stand in an answer.
const FIELDS: [&str; 2] = ["\"creationTimestamp\":\"", "\"deletionTimestamp\":\""];
/// How a moment is written, to the second.
const FORM: &str = "%Y-%m-%dT%H:%M:%SZ";
const FORM_BYTES: usize = "2000-01-01T00:00:00Z".len();

/// An answer, by a clock that is so many seconds ahead. It has as many bytes.
pub(super) fn moved(body: reqwest::Body, ahead: i64) -> reqwest::Body {
    let begin = (Box::pin(body.into_data_stream()), Vec::<u8>::new());
    // The events of a watch are lines, and each is given on when it came; all else is one.
    let lines = stream::try_unfold(begin, move |(mut pieces, mut rest)| async move {
        loop {
            if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
                let behind = rest.split_off(end + 1);
                return Ok(Some((line(&rest, ahead), (pieces, behind))));
            }
            match pieces.next().await {
                Some(piece) => rest.extend_from_slice(&piece?),
                None if rest.is_empty() => return Ok::<_, reqwest::Error>(None),
                None => return Ok(Some((line(&rest, ahead), (pieces, Vec::new())))),
            }
        }
    });
    reqwest::Body::wrap_stream(lines)
}

fn line(bytes: &[u8], ahead: i64) -> Bytes {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for field in FIELDS {
        let places: Vec<usize> =
            text.match_indices(field).map(|(at, _)| at + field.len()).collect();
        for from in places {
            let place = from..from + FORM_BYTES;
            let moment = text.get(place.clone()).and_then(|text| text.parse::<Timestamp>().ok());
            if let Some(moment) = moment {
                let moment = moment + SignedDuration::from_secs(ahead);
                text.replace_range(place, &moment.strftime(FORM).to_string());
            }
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_servers_own_are_moved_and_no_others() {
        let object = |second: &str| {
            format!(
                r#"{{"metadata":{{"creationTimestamp":"2026-01-01T{second}Z","deletionTimestamp":"2026-01-01T{second}Z"}},"status":{{"startTime":"2026-01-01T01:00:00Z"}}}}"#
            )
        };
        assert_eq!(line(object("01:00:00").as_bytes(), 3600), object("02:00:00"));
        assert_eq!(line(object("01:00:00").as_bytes(), -1), object("00:59:59"));
        let cut = br#"{"creationTimestamp":"2026-01"#;
        assert_eq!(line(cut, 1), &cut[..]);
    }
}
