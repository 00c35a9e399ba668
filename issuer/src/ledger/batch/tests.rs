use std::sync::Arc;

use mayfly_sdk::{InstanceId, Revision, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::ledger::{Kind, Personal};

/// A record with every field, as the golden file has it.
fn full() -> Record {
    Record {
        authority: Some("5f1c".into()),
        key_sha256: Some([0x22; 32]),
        node: Some("spiffe://example.org/mayfly/node/join_token/n1".parse().unwrap()),
        instance: Some(InstanceId::from_bytes([0x33; 16])),
        entry_uid: Some("e-7".into()),
        revision: Some(Revision { epoch: 1, n: 258 }),
        request_id: Some([0x44; 16]),
        released_sha256: Some([0x55; 32]),
        not_after: Some(Timestamp::from_unix_s(1_760_000_900)),
        reason: Some("expired".into()),
        personal: Personal {
            spiffe_id: Some("spiffe://example.org/agent".parse().unwrap()),
            actor: Some("uid:0".into()),
            detail: Some("ä".into()),
        },
        ..Record::new(Kind::X509SvidIssued, serial(1_760_000_000_123))
    }
}

fn serial(ms: i64) -> Serial {
    Serial::first_at(ms)
}

fn batch(records: &[Record]) -> Batch {
    let Encoded { records, personal, count, .. } = Encoded::new(records).unwrap().remove(0);
    Batch { id: 9, format: BATCH_FORMAT, count, records: records.into(), personal: personal.into() }
}

fn hex_lines(text: &str) -> Vec<u8> {
    let digits: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split_whitespace()).collect();
    hex::decode(digits).unwrap()
}

#[test]
fn the_bytes_of_a_batch_are_those_of_the_golden_file() {
    let mut encoded = Encoded::default();
    encoded.push(&full(), &[0x66; SALT]).unwrap();
    encoded.push(&Record::new(Kind::EntryDeleted, serial(1_760_000_000_001)), &[0x66; SALT]).unwrap();
    assert_eq!(hex::encode(&encoded.records), hex::encode(hex_lines(include_str!("../golden/records_v1.hex"))));
    assert_eq!(hex::encode(&encoded.personal), hex::encode(hex_lines(include_str!("../golden/personal_v1.hex"))));
    assert_eq!((encoded.count, encoded.first_ms, encoded.last_ms), (2, 1_760_000_000_001, 1_760_000_000_123));
}

#[test]
fn the_golden_files_are_read_back() {
    let batch = Batch {
        id: 1,
        format: BATCH_FORMAT,
        count: 2,
        records: hex_lines(include_str!("../golden/records_v1.hex")).into(),
        personal: hex_lines(include_str!("../golden/personal_v1.hex")).into(),
    };
    let all = batch.read().unwrap();
    assert_eq!(all[0].record, full());
    assert_eq!(all[1].record, Record::new(Kind::EntryDeleted, serial(1_760_000_000_001)));
    assert!(all.iter().all(|logged| !logged.erased && sha256(&logged.canonical) == logged.digest));
}

#[test]
fn a_record_is_found_by_its_event_id_alone() {
    let records: Vec<_> = (0..50).map(|ms| Record::new(Kind::JwtSvidIssued, serial(ms))).collect();
    let batch = batch(&records);
    assert_eq!(batch.find(serial(31)).unwrap().unwrap().record, records[31]);
    assert_eq!(batch.find(serial(50)).unwrap(), None);
}

#[test]
fn an_erased_personal_part_leaves_the_digest_and_says_so() {
    let mut batch = batch(&[full()]);
    let before = batch.read().unwrap().remove(0);
    batch.personal = Bytes::from_static(&[0; LENGTH]);
    let after = batch.read().unwrap().remove(0);
    assert!(after.erased && after.record.personal.is_empty());
    assert_eq!(after.digest, before.digest);
}

#[test]
fn two_records_of_the_same_personal_part_have_different_commitments() {
    let all = batch(&[full(), full()]).read().unwrap();
    assert_ne!(all[0].digest, all[1].digest);
    assert_eq!(all[0].record, all[1].record);
}

#[test]
fn every_flipped_byte_is_noticed() {
    let whole = batch(&[full()]);
    for at in 0..whole.records.len() {
        let mut bytes = whole.records.to_vec();
        bytes[at] ^= 1;
        assert!(Batch { records: bytes.into(), ..whole.clone() }.read().is_err(), "byte {at} of the records");
    }
    for at in 0..whole.personal.len() {
        let mut bytes = whole.personal.to_vec();
        bytes[at] ^= 1;
        assert!(Batch { personal: bytes.into(), ..whole.clone() }.read().is_err(), "byte {at} of the personal part");
    }
}

#[test]
fn a_batch_spans_a_bounded_time_and_a_bounded_size() {
    let at = |ms: i64| Record::new(Kind::Refused, serial(ms));
    let parts = Encoded::new(&[at(0), at(MAX_SPAN_MS), at(MAX_SPAN_MS + 1), at(5)]).unwrap();
    let spans: Vec<_> = parts.iter().map(|part| (part.first_ms, part.last_ms, part.count)).collect();
    assert_eq!(spans, [(0, MAX_SPAN_MS, 2), (5, MAX_SPAN_MS + 1, 2)]);

    let mut joined = Vec::new();
    for ms in [3, 4, MAX_SPAN_MS + 3, MAX_SPAN_MS + 4] {
        Encoded::new(&[at(ms)]).unwrap().into_iter().for_each(|part| Encoded::gather(&mut joined, part));
    }
    assert_eq!(joined.iter().map(|part| part.count).collect::<Vec<_>>(), [3, 1]);

    let big = Record { personal: Personal { detail: Some("d".repeat(4096).into()), ..Personal::default() }, ..at(1) };
    assert!(Encoded::new(&vec![big; 2000]).unwrap().iter().all(|part| part.size() < MAX_BYTES + 8192));
}

#[test]
fn a_field_that_is_too_long_is_refused_and_a_detail_is_cut() {
    let record = Record { authority: Some("a".repeat(65_536).into()), ..full() };
    assert_eq!(Encoded::new(&[record]).unwrap_err(), LedgerError::FieldTooLong);
    let personal = Personal { detail: Some("ä".repeat(70_000).into()), ..Personal::default() };
    let logged = batch(&[Record { personal, ..full() }]).read().unwrap().remove(0);
    assert_eq!(logged.record.personal.detail.unwrap().len(), 4096);
}

#[test]
fn a_newer_kind_field_or_layout_is_named_as_such() {
    let newer = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut canonical = Vec::new();
        write_record(&mut canonical, &Record::new(Kind::Refused, serial(1)), None).unwrap();
        change(&mut canonical);
        read_record(&canonical).unwrap_err()
    };
    assert_eq!(newer(&|bytes| bytes[0] = 2), LedgerError::Newer);
    assert_eq!(newer(&|bytes| bytes[1] = 0xff), LedgerError::Newer);
    assert_eq!(newer(&|bytes| bytes.extend([200, 0, 0])), LedgerError::Newer);
    assert!(matches!(newer(&|bytes| bytes.extend([7, 0, 1])), LedgerError::Malformed(_)));
    assert_eq!(Batch { format: 2, ..batch(&[full()]) }.read(), Err(LedgerError::Newer));
}

proptest! {
    #[test]
    fn any_record_is_read_back_as_it_was(
        ms in 0_i64..(1 << 47),
        kind in proptest::sample::select(Kind::ALL),
        authority in proptest::option::of("\\PC{0,40}"),
        key in proptest::option::of(any::<[u8; 32]>()),
        instance in proptest::option::of(any::<[u8; 16]>()),
        revision in proptest::option::of(any::<(u64, u64)>()),
        not_after in proptest::option::of(any::<i64>()),
        detail in proptest::option::of("\\PC{0,40}"),
    ) {
        let record = Record {
            authority: authority.map(Into::into),
            key_sha256: key,
            instance: instance.map(InstanceId::from_bytes),
            revision: revision.map(|(epoch, n)| Revision { epoch, n }),
            not_after: not_after.map(Timestamp::from_unix_s),
            personal: Personal { detail: detail.map(Arc::from), ..Personal::default() },
            ..Record::new(kind, serial(ms))
        };
        prop_assert_eq!(&batch(std::slice::from_ref(&record)).read().unwrap()[0].record, &record);
    }

    #[test]
    fn arbitrary_bytes_never_panic(records in proptest::collection::vec(any::<u8>(), 0..200), personal: Vec<u8>, count in 0_u32..4) {
        let batch = Batch { id: 1, format: 1, count, records: records.clone().into(), personal: personal.clone().into() };
        prop_assert!(batch.read().is_err() || count == 0);
        prop_assert!(read_record(&records).is_err() || records.len() >= 19);
        prop_assert!(read_personal(&personal).is_err() || !personal.is_empty());
    }
}
