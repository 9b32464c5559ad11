//! What is written into a place comes out of it.

use super::*;
use crate::{Ledger, Level};

/// What a place does to a record: nothing.
fn round_trip(holder: &HolderDesc<'_>, edge: Option<&Edge<'_>>) -> Record {
    let ledger = Ledger::new(Level::Records);
    let record = ledger.record(ledger.open(holder, edge)).expect("open");
    assert_eq!((record.role, record.framework, record.site), (holder.role, holder.framework, holder.site));
    assert_eq!((record.device, record.address, record.dtype), (holder.device, holder.address, holder.dtype));
    assert_eq!((record.padded, record.unit, record.alloc), (holder.padded, holder.unit, holder.alloc));
    assert_eq!((&record.shape[..], &record.strides[..]), (holder.shape, holder.strides));
    assert_eq!(record.flags, holder.flags);
    let source = record.source.clone();
    assert_eq!(source.is_some(), edge.is_some());
    if let (Some(source), Some(edge)) = (source, edge) {
        assert_eq!((source.from, source.framework, source.verdict), (edge.from, edge.from_framework, edge.verdict));
        assert_eq!((source.steps, &source.reasons[..]), (edge.steps, edge.reasons));
        assert_eq!((source.bytes, source.sync), (edge.bytes, edge.sync));
    }
    record
}

fn holder<'a>(shape: &'a [i64], strides: &'a [i64]) -> HolderDesc<'a> {
    HolderDesc {
        role: Role::Holder,
        framework: Label::TORCH,
        site: Label::intern("here"),
        device: Device::new(DeviceKind(-1), i32::MIN),
        address: u64::MAX,
        dtype: DType { code: 255, bits: 254, lanes: u16::MAX },
        padded: true,
        unit: StrideUnit::Bytes,
        shape,
        strides,
        alloc: Some((u64::MAX - 1, u64::MAX - 2)),
        flags: HolderFlags::all(),
    }
}

#[test]
fn dimensions_at_the_edge_of_32_bits_come_back_as_they_were() {
    let edges = [0, 1, -1, i32::MAX.into(), i64::from(i32::MAX) + 1, i32::MIN.into(), i64::from(i32::MIN) - 1];
    for size in edges.into_iter().chain([u32::MAX.into(), i64::MAX, i64::MIN]) {
        for ndim in 0..7 {
            let (ones, mut sizes) = (vec![1; ndim], vec![1; ndim]);
            if let Some(last) = sizes.last_mut() {
                *last = size;
            }
            round_trip(&holder(&sizes, &ones), None);
            round_trip(&holder(&ones, &sizes), None);
        }
    }
}

#[test]
fn edges_come_back_as_they_were() {
    let base = holder(&[2, 3], &[3, 1]);
    let codes = [Code::RO02, Code::GR02, Code::AL02, Code::CA01, Code::IN01];
    for bytes in [0, 1, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1, u64::MAX] {
        for n in 0..=codes.len() {
            for verdict in [Verdict::Share, Verdict::Copy, Verdict::Reject] {
                let edge = Edge {
                    from: HolderId::from_raw(u64::MAX),
                    from_framework: Label::OTHER,
                    to: Label::NONE,
                    verdict,
                    steps: Steps::from_bits_retain(0xFF),
                    reasons: &codes[..n],
                    bytes,
                    sync: Sync::Host,
                };
                round_trip(&base, Some(&edge));
            }
        }
    }
}

#[test]
fn each_choice_has_its_own_bit() {
    let base = holder(&[2], &[1]);
    let quiet = HolderDesc {
        role: Role::Owner,
        padded: false,
        unit: StrideUnit::Elements,
        alloc: None,
        flags: HolderFlags::empty(),
        ..base
    };
    round_trip(&quiet, None);
    for one in [
        HolderDesc { role: Role::Holder, ..quiet },
        HolderDesc { padded: true, ..quiet },
        HolderDesc { unit: StrideUnit::Bytes, ..quiet },
        HolderDesc { alloc: Some((0, 0)), ..quiet },
    ] {
        round_trip(&one, None);
    }
    for flag in HolderFlags::all().iter() {
        round_trip(&HolderDesc { flags: flag, ..quiet }, None);
    }
}

#[test]
fn a_later_record_of_a_shard_sorts_after_an_earlier_one() {
    let ms = 1 << TIME_SHIFT;
    let words = [opened(5 * ms, 1), opened(5 * ms + 1, 2), opened(5 * ms, (1 << SEQUENCE_BITS) - 1), opened(6 * ms, 0)];
    assert!(words.is_sorted());
}
