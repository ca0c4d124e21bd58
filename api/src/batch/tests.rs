//! What is written is read back, and no bytes make the reader panic.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::StringViewBuilder;
use arrow_array::{
    ArrayRef, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray, UInt32Array,
};
use arrow_ipc::writer::StreamWriter;
use muster_core::limits;
use proptest::prelude::*;

use super::*;
use crate::job_text::Parser;

fn texts() -> Vec<String> {
    (0..50)
        .map(|n| {
            let extra = match n % 5 {
                0 => format!(r#""clientId":"c-{n}","count":{},"#, n + 1),
                1 => r#""labels":{"a":"b"},"namespace":"other","#.to_owned(),
                2 => r#""annotations":{"muster.dev/at-most-once":"true"},"#.to_owned(),
                3 => r#""services":[{"ports":[80]}],"ingress":[{"ports":[81]}],"#.to_owned(),
                _ => String::new(),
            };
            format!(
                r#"{{{extra}"priority":{n},"podSpec":{{"containers":[{{"args":["{n}"],
                "resources":{{"limits":{{"cpu":"{}"}}}}}}]}}}}"#,
                n % 3
            )
        })
        .collect()
}

fn message() -> Bytes {
    static MESSAGE: LazyLock<Bytes> = LazyLock::new(build);
    MESSAGE.clone()
}

fn build() -> Bytes {
    let (mut parser, mut builder) = (Parser::new(), Builder::new());
    for (line, text) in texts().iter().enumerate() {
        builder.push(line as u64 * 2, &parser.parse(text.as_bytes()).unwrap());
    }
    let bound = builder.bytes();
    let message = builder.finish();
    assert!(message.len() <= bound, "{} bytes, promised were {bound}", message.len());
    message
}

#[test]
fn a_batch_is_read_as_it_was_built() {
    let message = message();
    let jobs = read(message.clone()).unwrap();
    let mut parser = Parser::new();
    for (at, (text, job)) in texts().iter().zip(&jobs).enumerate() {
        let expected = parser.parse(text.as_bytes()).unwrap();
        assert_eq!(job.line, at as u64 * 2);
        assert_eq!(job.client_id.as_deref(), expected.client_id.as_deref());
        assert_eq!((job.priority, job.count), (expected.priority, expected.count));
        assert_eq!(job.at_most_once, expected.at_most_once);
        assert_eq!(job.shape, expected.shape.shape);
        assert_eq!(*job.payload.namespace, *expected.namespace);
        assert_eq!(job.payload.labels, expected.labels);
        assert_eq!(job.payload.annotations, expected.annotations);
        assert_eq!(job.payload.network, expected.network);
        assert_eq!(job.payload.pod_spec, expected.pod_spec);
    }
    assert_eq!(jobs.len(), 50);
    let mut again = Builder::new();
    jobs.iter().for_each(|job| again.push_new(job));
    assert_eq!(read(again.finish()).unwrap(), jobs);
}

#[test]
fn pod_specs_are_slices_of_the_message_wherever_it_lies() {
    let message = message();
    for shift in 0..9 {
        let shifted = Bytes::from([vec![0; shift], message.to_vec()].concat()).slice(shift..);
        let whole = shifted.as_ptr_range();
        for job in read(shifted.clone()).unwrap() {
            assert!(whole.contains(&job.payload.pod_spec.as_ptr()));
        }
    }
}

#[test]
fn a_command_holds_as_many_jobs_as_the_limit_says_and_not_one_more() {
    let text = br#"{"podSpec":{"containers":[{}]}}"#;
    let of = |jobs: usize| {
        let (mut parser, mut builder) = (Parser::new(), Builder::new());
        for line in 0..jobs as u64 {
            builder.push(line, &parser.parse(text).unwrap());
        }
        read(builder.finish())
    };
    assert_eq!(of(limits::JOBS_PER_JSON_MAX).unwrap().len(), limits::JOBS_PER_JSON_MAX);
    let error = of(limits::JOBS_PER_JSON_MAX + 1).unwrap_err().to_string();
    assert!(error.contains("10001 jobs, limit is 10000"), "{error}");
    assert_eq!(of(0).unwrap(), []);
}

#[test]
fn lines_must_rise() {
    let (mut parser, mut builder) = (Parser::new(), Builder::new());
    let job = parser.parse(br#"{"podSpec":{"containers":[{}]}}"#).unwrap();
    builder.push(3, &job);
    builder.push(3, &job);
    assert!(read(builder.finish()).unwrap_err().to_string().contains("line 3 does not rise"));
}

proptest! {
    #[test]
    fn bytes_changed_anywhere_give_an_error_or_sound_jobs(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        start in any::<bool>(),
    ) {
        let mut bytes = message().to_vec();
        for (at, to) in changes {
            // Half of the cases hit the headers, which are few of the bytes.
            let len = if start { 2500 } else { bytes.len() };
            bytes[at.index(len)] = to;
        }
        for job in read(bytes.into()).unwrap_or_default() {
            prop_assert!(job.payload.pod_spec.len() <= limits::JOB_BYTES_MAX);
        }
    }

    #[test]
    fn a_batch_that_is_cut_is_never_read_as_another(at in any::<prop::sample::Index>()) {
        let message = message();
        let cut = message.slice(..at.index(message.len()));
        if let Ok(jobs) = read(cut) {
            prop_assert!(jobs.is_empty() || jobs.len() == 50);
        }
    }
}

fn stream(columns: Vec<(&str, ArrayRef)>, batches: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    (0..batches).for_each(|_| writer.write(&batch).unwrap());
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn specs() -> ArrayRef {
    Arc::new(LargeStringArray::from(vec![Some(r#"{"containers":[{}]}"#), Some("7"), None]))
}

fn documented() -> Vec<u8> {
    stream(
        vec![
            ("pod_spec", specs()),
            ("client_id", Arc::new(StringArray::from(vec![Some("a"), None, None]))),
            ("priority", Arc::new(Float64Array::from(vec![Some(2.4), None, None]))),
            ("count", Arc::new(UInt32Array::from(vec![Some(3), None, None]))),
            ("labels", Arc::new(StringArray::from(vec![Some(r#"{"x":"y"}"#), None, None]))),
        ],
        2,
    )
}

proptest! {
    #[test]
    fn a_documented_stream_is_read_however_it_is_cut(
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)
    ) {
        let bytes = documented();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let (mut stream, mut parser) = (public::Stream::new(), Parser::new());
        let (mut good, mut bad) = (0, 0);
        for piece in cuts.windows(2) {
            stream.push(&bytes[piece[0]..piece[1]]);
            while let Some(jobs) = stream.next_batch().unwrap() {
                for row in 0..jobs.len() {
                    match jobs.job(row, &mut parser) {
                        Ok(job) => {
                            prop_assert_eq!((job.client_id.as_deref(), job.priority), (Some("a"), 2));
                            prop_assert_eq!((job.count, job.labels), (Some(3), r#"{"x":"y"}"#));
                            good += 1;
                        }
                        Err(_) => bad += 1,
                    }
                }
            }
        }
        stream.finish().unwrap();
        prop_assert_eq!((good, bad), (2, 4));
    }
}

#[test]
fn columns_that_are_not_documented_are_refused() {
    let refusal = |columns| {
        let mut public = public::Stream::new();
        public.push(&stream(columns, 1));
        public.next_batch().map(|jobs| jobs.map(|jobs| jobs.len())).unwrap_err().to_string()
    };
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let mut views = StringViewBuilder::new();
    (0..3).for_each(|_| views.append_value("x"));
    let cases = [
        (vec![("client_id", specs())], "column `pod_spec`: is missing"),
        (vec![("pod_spec", specs()), ("podSpec", specs())], "column `podSpec`: is not one"),
        (vec![("pod_spec", Arc::clone(&whole))], "column `pod_spec`: type Int64 is no text"),
        (
            vec![("pod_spec", Arc::new(views.finish()) as ArrayRef)],
            "column `pod_spec`: type Utf8View is not supported",
        ),
        (
            vec![
                ("pod_spec", specs()),
                ("count", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))),
            ],
            "column `count`: is not of whole numbers",
        ),
    ];
    for (columns, expected) in cases {
        let found = refusal(columns);
        assert!(found.contains(expected), "`{found}` does not say `{expected}`");
    }
}

#[test]
fn a_stream_that_ends_in_a_message_is_not_finished() {
    let bytes = documented();
    let mut stream = public::Stream::new();
    stream.push(&bytes[..bytes.len() - 9]);
    while stream.next_batch().unwrap().is_some() {}
    assert!(stream.finish().is_err());
}
