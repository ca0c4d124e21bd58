//! Records survive their encoding; broken bytes are refused.

mod records;

use super::*;
use muster_core::id::{JobId, ShardId};
use muster_core::record::Submitted;
use muster_core::resources::{CPU, MEMORY, Resources};
use muster_core::shape::Shape;
use muster_core::time::Timestamp;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

fn header(kind: Kind) -> Header {
    Header {
        shard: ShardId(3),
        epoch: 7,
        writer: u128::MAX - 1,
        nonce: 12,
        kind,
        sequence: 41,
        released: false,
        format: FORMAT,
    }
}

/// `count` queued jobs of a few queues, each with its own pod spec.
fn jobs(count: u64) -> Vec<Record> {
    let mut request = Resources::new();
    request.set(CPU.into(), "250m".parse().unwrap());
    request.set(MEMORY.into(), "1Gi".parse().unwrap());
    let shape = Arc::new(Shape::of_request(request));
    let queues: Vec<muster_core::Name> = (0..8).map(|q| format!("queue-{q}").into()).collect();
    let namespace: muster_core::Name = "jobs".into();
    let first = JobId::new(Timestamp(1_790_000_000_000), ShardId(3), 99);
    let job = |n: u64| {
        let pod_spec = format!(r#"{{"containers":[{{"name":"main","image":"busybox:{n}"}}]}}"#);
        Record::Submitted(Box::new(Submitted {
            job: first.plus(n),
            queue: queues[(n / 64 % 8) as usize].clone(),
            job_set: queues[(n / 512 % 8) as usize].clone(),
            client_id: None,
            priority: 1000,
            count: None,
            at_most_once: false,
            terms: None,
            shape: Arc::clone(&shape),
            payload: Payload {
                namespace: namespace.clone(),
                pod_spec: pod_spec.into(),
                ..Payload::default()
            },
        }))
    };
    (0..count).map(job).collect()
}

fn without_payload(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        match record {
            Record::Submitted(submitted) => submitted.payload = Payload::default(),
            Record::Job(live) => live.submitted.payload = Payload::default(),
            Record::Changed(_)
            | Record::Command(_)
            | Record::QueueClosed { .. }
            | Record::Forgotten { .. }
            | Record::HistoryPlanned(_)
            | Record::HistoryWritten(_)
            | Record::JobSet(_)
            | Record::Rested { .. }
            | Record::Ends(_)
            | Record::LastJob(_)
            | Record::Finished(_) => {}
        }
    }
    records
}

#[test]
fn a_small_object_is_stored_as_it_is_and_a_larger_one_compressed() {
    use parquet::basic::Compression;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    let compressed = |records: &[Record]| {
        let bytes = encode(&header(Kind::Log), records).unwrap();
        assert_eq!(decode(bytes.clone(), Columns::All).unwrap().1, records);
        let file = SerializedFileReader::new(bytes).unwrap();
        let columns = file.metadata().row_group(0).columns();
        let is_packed: Vec<bool> =
            columns.iter().map(|c| c.compression() != Compression::UNCOMPRESSED).collect();
        assert_eq!(is_packed, vec![!is_small(records); is_packed.len()]);
        is_packed[0]
    };
    assert!(!compressed(&jobs(64)));
    assert!(compressed(&jobs(65)));
    let mut large = jobs(1);
    let Record::Submitted(submitted) = &mut large[0] else { panic!("it was submitted") };
    submitted.payload.pod_spec = "x".repeat(16 * 1024 + 1).into();
    assert!(compressed(&large));
}

proptest! {
    #[test]
    fn records_come_back_as_they_went_in(records in records::records()) {
        let bytes = encode(&header(Kind::Log), &records).unwrap();
        let (found, decoded) = decode(bytes.clone(), Columns::All).unwrap();
        prop_assert_eq!(found, header(Kind::Log));
        prop_assert_eq!(&decoded, &records);
        let (_, decoded) = decode(bytes, Columns::WithoutPayload).unwrap();
        prop_assert_eq!(decoded, without_payload(records));
    }

    #[test]
    fn bytes_that_are_no_object_are_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        prop_assert!(decode(bytes.clone().into(), Columns::All).is_err());
        bytes.extend_from_slice(b"\x10\0\0\0PAR1");
        prop_assert!(decode(bytes.into(), Columns::All).is_err());
    }
}

#[test]
fn an_object_of_many_batches_keeps_its_order_and_shares_its_names() {
    let records = jobs(20_000);
    let bytes = encode(&header(Kind::Log), &records).unwrap();
    let (_, decoded) = decode(bytes.clone(), Columns::All).unwrap();
    assert_eq!(decoded, records);
    let submitted = |record: &Record| match record {
        Record::Submitted(submitted) => (submitted.queue.clone(), Arc::clone(&submitted.shape)),
        other => panic!("{other:?}"),
    };
    let (first, last) = (submitted(&decoded[0]), submitted(&decoded[19_968]));
    assert!(Arc::ptr_eq(&first.0, &last.0) && Arc::ptr_eq(&first.1, &last.1));
}

#[test]
fn payloads_are_found_by_row() {
    let mut records = jobs(17_000);
    records.insert(
        1,
        Record::HistoryPlanned(muster_core::record::HistorySpan {
            after: muster_core::id::Position::default(),
            through: muster_core::id::Position { sequence: 1, row: 2 },
        }),
    );
    let bytes = encode(&header(Kind::Log), &records).unwrap();
    let payload = |row: usize| match &records[row] {
        Record::Submitted(submitted) => submitted.payload.clone(),
        _ => Payload::default(),
    };
    let rows = [17_000, 0, 1, 16_384, 16_383, 0];
    let expected: Vec<_> = rows.iter().map(|&row| payload(row as usize)).collect();
    assert_eq!(decode_payloads(bytes.clone(), &rows).unwrap(), expected);
    let error = decode_payloads(bytes, &[17_001]).unwrap_err();
    assert!(matches!(error, Error::NoRow { row: 17_001, rows: 17_001 }), "{error}");
}

#[test]
fn an_object_without_records_has_a_header() {
    for kind in [Kind::Log, Kind::Fence, Kind::Checkpoint] {
        let header = Header { released: true, ..header(kind) };
        let bytes = encode(&header, &[]).unwrap();
        assert_eq!(Header::read(&bytes).unwrap(), header);
        assert_eq!(decode(bytes, Columns::All).unwrap(), (header, vec![]));
    }
}

#[test]
fn any_byte_changed_or_missing_is_an_error() {
    let bytes = encode(&header(Kind::Log), &jobs(3)).unwrap();
    for at in 0..bytes.len() {
        assert!(decode(bytes.slice(..at), Columns::All).is_err(), "cut at {at}");
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        assert!(decode(changed.into(), Columns::All).is_err(), "changed at {at}");
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let newer = Header { format: FORMAT + 1, ..header(Kind::Log) };
    let error = decode(encode(&newer, &[]).unwrap(), Columns::All).unwrap_err();
    assert_eq!(error.to_string(), "object has format 2, this version reads up to 1");
}

/// The object with so many rows in each row group, and a footer and a checksum that fit.
fn claiming(object: &Bytes, rows: i64) -> Bytes {
    use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter};
    let metadata = ParquetMetaDataReader::new().parse_and_finish(object).unwrap();
    let claim = |group: &parquet::file::metadata::RowGroupMetaData| {
        group.clone().into_builder().set_num_rows(rows).build().unwrap()
    };
    let groups = metadata.row_groups().iter().map(claim).collect();
    let claimed = ParquetMetaData::new(metadata.file_metadata().clone(), groups);
    let length: [u8; 4] = object[object.len() - 8..object.len() - 4].try_into().unwrap();
    let body = object.len() - 8 - u32::from_le_bytes(length) as usize;
    let mut bytes = object[..body].to_vec();
    let mut footer = Vec::new();
    ParquetMetaDataWriter::new(&mut footer, &claimed).finish().unwrap();
    bytes.extend(footer);
    checksum::sign(&mut bytes).unwrap();
    bytes.into()
}

#[test]
fn rows_that_are_not_there_are_an_error_and_no_room_is_made_for_them() {
    let records = jobs(3);
    let whole = encode(&header(Kind::Log), &records).unwrap();
    assert_eq!(decode(claiming(&whole, 3), Columns::All).unwrap().1, records);
    let error = decode(claiming(&whole, i64::MAX), Columns::All).unwrap_err().to_string();
    assert!(error.contains(&format!("it has 3 rows, its footer says {}", i64::MAX)), "{error}");

    // A number of rows, of whatever field, before the list of row groups.
    let rows_of_file = [0x16, 3 << 1, 0x19];
    let mut places = whole.windows(3).enumerate().filter(|(_, window)| *window == rows_of_file);
    let (Some((place, _)), None) = (places.next(), places.next()) else { panic!("not one place") };
    for (rows, byte) in [(0, 0), (4, 4 << 1), (-1, 1)] {
        let mut bytes = whole.to_vec();
        bytes[place + 1] = byte;
        checksum::sign(&mut bytes).unwrap();
        let error = decode(bytes.into(), Columns::All).unwrap_err().to_string();
        assert!(error.contains(&format!("says {rows} rows, its row groups 3")), "{error}");
    }
}

#[test]
fn an_object_under_the_wrong_key_is_told_apart() {
    let header = header(Kind::Log);
    assert!(header.expect(ShardId(3), 41, false).is_ok());
    assert!(header.expect(ShardId(4), 41, false).is_err());
    assert!(header.expect(ShardId(3), 42, false).is_err());
    let error = header.expect(ShardId(3), 41, true).unwrap_err();
    assert_eq!(error.to_string(), "object says kind log, its key says checkpoint");
}

#[test]
fn the_schema_is_the_one_on_record() {
    let bytes = encode(&header(Kind::Log), &jobs(1)).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(bytes).unwrap();
    let file = parquet::file::reader::FileReader::metadata(&reader).file_metadata().clone();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, file.schema());
    let mut text = String::from_utf8(text).unwrap();
    text.push_str("\nfooter:\n");
    for pair in file.key_value_metadata().unwrap() {
        writeln!(text, "  {}", pair.key).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log_schema.txt");
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} is to be reviewed and written by hand", path.display());
}

#[test]
fn objects_of_format_1_are_readable_for_ever() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parquet/v1");
    for (name, kind) in [("log", Kind::Log), ("checkpoint", Kind::Checkpoint)] {
        let bytes = std::fs::read(fixtures.join(format!("{name}.parquet"))).unwrap();
        let (found, decoded) = decode(bytes.into(), Columns::All).unwrap();
        assert_eq!(found, header(kind));
        assert_eq!(decoded, records::of_each_kind(kind), "{name}");
    }
}
