//! The requirement rows that the ledger proves, by number.

mod common;

use common::{array, copy, held_by, ledger, share};
use freehold_ledger::{Counter, HolderDesc, HolderFlags, HolderId, Label, Level, Role};
use freehold_tensor::{Code, DType, Device, DeviceKind, Layout, Overlap, Steps, StrideUnit, Strided, Verdict};

/// A share is one buffer with an owner and a holder, until both let go.
#[test]
fn a03_a_share_is_one_buffer_with_two_holders() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let owner = ledger.open(&a, None);
    let tensor = ledger.open(&held_by(Label::TORCH, &a), Some(&share(owner, Label::NUMPY, &[])));

    let live = ledger.live();
    assert_eq!(live.len(), 1);
    let buffer = &live[0];
    assert_eq!((buffer.device, buffer.base, buffer.len), (Device::CPU, 0x1000, 24));
    let numpy = buffer.owner.as_ref().expect("numpy owns it");
    assert_eq!((numpy.framework, numpy.role, numpy.verdict), ("numpy", Role::Owner, None));
    assert_eq!(buffer.holders.len(), 1);
    let torch = &buffer.holders[0];
    assert_eq!((torch.framework, torch.role), ("torch", Role::Holder));
    assert_eq!((torch.parent, torch.from, torch.verdict), (owner, Some("numpy"), Some(Verdict::Share)));
    assert_eq!((torch.dtype, &torch.shape[..], &torch.strides[..]), (DType::F64, &[3][..], &[1][..]));

    assert!(ledger.close(owner), "the producer may let go first");
    let buffer_after = &ledger.live()[0];
    assert_eq!((buffer_after.id, &buffer_after.owner), (buffer.id, &None));
    assert!(ledger.close(tensor));
    assert!(ledger.live().is_empty());
}

/// The storage pointer of a slice differs from its data pointer; the buffer is the same, the overlap exact.
#[test]
fn a05_shared_memory_is_told_by_buffer_and_exact_overlap_not_by_pointer() {
    let ledger = ledger();
    let base = array(Label::TORCH, 0x2000, &[10]);
    let whole = ledger.open(&base, None);
    let view = |start: u64, strides: &'static [i64; 1]| HolderDesc {
        address: 0x2000 + start * 8,
        shape: &[5],
        strides,
        ..held_by(Label::NUMPY, &base)
    };
    let even = ledger.open(&view(0, &[2]), None);
    let odd = ledger.open(&view(1, &[2]), None);
    let tail = ledger.open(&view(5, &[1]), None);

    let buffers = ledger.live();
    assert_eq!(buffers.len(), 1, "one allocation");
    let of = |id| {
        let mut ids: Vec<HolderId> = ledger.aliases(id).iter().map(|alias| alias.holder.id).collect();
        ids.sort();
        ids
    };
    let sorted = |mut ids: Vec<HolderId>| {
        ids.sort();
        ids
    };
    assert_eq!(of(even), sorted(vec![whole, tail]), "x[::2] and x[1::2] are apart though their ranges cross");
    assert_eq!(of(odd), sorted(vec![whole, tail]));
    assert_eq!(of(whole), sorted(vec![even, odd, tail]));

    let alias = ledger.aliases(tail).into_iter().find(|alias| alias.holder.id == even).expect("they overlap");
    assert_eq!(alias.overlap, Overlap::Some);
    // tail covers bytes 40 to 80, even 0 to 72.
    assert_eq!((alias.start, alias.bytes), (0x2000 + 40, 32));
}

/// `aliases_of` answers for a view that is not on the ledger.
#[test]
fn a05_a_view_that_is_not_recorded_can_be_asked_about() {
    let ledger = ledger();
    let id = ledger.open(&array(Label::NUMPY, 0x2000, &[10]), None);
    let (shape, strides) = ([2], [1]);
    let view = |address| Strided {
        address,
        layout: Layout::new(&shape, &strides),
        dtype: DType::U8,
        padded: false,
        unit: StrideUnit::Elements,
    };
    let found = ledger.aliases_of(&view(0x2000 + 78), Device::CPU);
    assert_eq!(
        found.iter().map(|alias| (alias.holder.id, alias.start, alias.bytes)).collect::<Vec<_>>(),
        [(id, 0x2000 + 78, 2)]
    );
    assert!(ledger.aliases_of(&view(0x2000 + 80), Device::CPU).is_empty());
    assert!(ledger.aliases_of(&view(0x2000), Device::new(DeviceKind::CUDA, 0)).is_empty());
    let pinned = Device::new(DeviceKind::CUDA_HOST, 0);
    assert_eq!(ledger.aliases_of(&view(0x2000), pinned).len(), 1, "pinned memory is host memory");
}

/// A dtype change is a copy: a new buffer, an edge that says where it came from, no alias.
#[test]
fn a12_a_cast_is_a_new_buffer_derived_from_the_old_and_not_its_alias() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[4]);
    let source = ledger.open(&a, None);
    let cast = HolderDesc {
        address: 0x9000,
        dtype: DType::F32,
        alloc: Some((0x9000, 16)),
        flags: HolderFlags::COPIED,
        ..array(Label::TORCH, 0x9000, &[4])
    };
    let edge = copy(source, Label::NUMPY, Steps::CAST, &[Code::CA01], 16);
    let id = ledger.open(&cast, Some(&edge));

    assert_eq!(ledger.live().len(), 2);
    assert!(ledger.aliases(id).is_empty() && ledger.aliases(source).is_empty());
    let holder = ledger.holder(id).expect("open");
    assert_eq!((holder.parent, holder.verdict, holder.bytes), (source, Some(Verdict::Copy), 16));
    assert_eq!((&holder.reasons[..], holder.steps), (&[Code::CA01][..], Steps::CAST));
    assert_ne!(ledger.holder(source).expect("open").buffer, holder.buffer);

    // What was copied and why outlives both.
    assert!(ledger.close(id) && ledger.close(source));
    let copies = ledger.copies();
    assert_eq!(copies.len(), 1);
    assert_eq!((copies[0].from, copies[0].to, copies[0].bytes), ("numpy", "torch", 16));
    assert_eq!((&copies[0].reasons[..], copies[0].steps), (&[Code::CA01][..], Steps::CAST));
    let stats = ledger.stats();
    assert_eq!((stats.copied[0].code, stats.copied[0].count, stats.copied[0].bytes), (Some(Code::CA01), 1, 16));
}

/// numpy -> torch by share, `t ** 2` outside the ledger, its result -> numpy by share: two buffers, two share edges.
#[test]
fn a36_mixed_operations_are_two_buffers_with_one_share_each() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let x = ledger.open(&a, None);
    let t = ledger.open(&held_by(Label::TORCH, &a), Some(&share(x, Label::NUMPY, &[])));
    let b = array(Label::TORCH, 0x5000, &[3]);
    let y = ledger.open(&b, None);
    let z = ledger.open(&held_by(Label::NUMPY, &b), Some(&share(y, Label::TORCH, &[])));

    let live = ledger.live();
    assert_eq!(live.len(), 2);
    assert!(live.iter().all(|buffer| buffer.owner.is_some() && buffer.holders.len() == 1));
    assert!(ledger.aliases(t).iter().all(|alias| alias.holder.id == x));
    assert!(ledger.aliases(z).iter().all(|alias| alias.holder.id == y));
    let shares: u64 = ledger.stats().handovers.iter().filter(|h| h.verdict == Verdict::Share).map(|h| h.count).sum();
    assert_eq!(shares, 2);
}

/// An owner that must not write while its buffer is lent; a change is a hazard that names the borrower.
#[test]
fn a39_a_change_of_a_lent_buffer_is_a_hazard_with_the_holders_name() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let owner = ledger.open(&a, None);
    let lent = HolderDesc { flags: HolderFlags::FROZEN, ..held_by(Label::TORCH, &a) };
    let lent = ledger.open(&lent, Some(&share(owner, Label::NUMPY, &[])));
    assert_eq!(ledger.aliases(owner)[0].holder.flags, HolderFlags::FROZEN);

    let buffer = ledger.holder(lent).expect("open").buffer;
    assert_eq!(ledger.hazard_count(), 0);
    ledger.hazard(Code::AL01, &[lent], format!("buffer #{buffer} changed while lent to torch"));
    assert_eq!(ledger.hazard_count(), 1);
    assert!(ledger.update_flags(lent, HolderFlags::empty(), HolderFlags::FROZEN));
    assert_eq!(ledger.holder(lent).expect("open").flags, HolderFlags::empty());
    ledger.close(lent);

    let hazards = ledger.hazards();
    assert_eq!(hazards.len(), 1);
    assert_eq!((hazards[0].code, hazards[0].holders[0].id), (Code::AL01, lent));
    assert_eq!(hazards[0].holders[0].framework, "torch", "the name stays after the holder is gone");
    assert_eq!(hazards[0].note, "buffer #1 changed while lent to torch");
    assert_eq!((ledger.stats().hazards[0].code, ledger.stats().hazards[0].count), (Code::AL01, 1));
}

/// A capsule consumed twice is refused and counted; one never consumed is counted when it is freed.
#[test]
fn x12_capsules_consumed_twice_or_never_are_counted() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let capsule = HolderDesc { flags: HolderFlags::EXPORTED, ..held_by(Label::UNKNOWN, &a) };
    let consumed = ledger.open(&capsule, None);
    let forgotten = ledger.open(&capsule, None);
    assert!(ledger.text_report().contains("not known to be consumed"));

    assert!(ledger.update_flags(consumed, HolderFlags::CONSUMED, HolderFlags::empty()));
    let flags = ledger.holder(consumed).expect("open").flags;
    assert_eq!(flags, HolderFlags::EXPORTED | HolderFlags::CONSUMED);
    ledger.reject(Label::NUMPY, Label::TORCH, Code::CP01);
    ledger.count(Counter::DoubleConsumed);
    ledger.close(consumed);
    ledger.close(forgotten);
    ledger.count(Counter::UnconsumedCapsules);

    let stats = ledger.stats();
    assert_eq!((stats.refused[0].code, stats.refused[0].count), (Code::CP01, 1));
    assert_eq!(ledger.counted(Counter::DoubleConsumed), 1);
    assert_eq!(ledger.counted(Counter::UnconsumedCapsules), 1);
    assert!(!ledger.update_flags(consumed, HolderFlags::FROZEN, HolderFlags::empty()), "closed");
}

/// A deleter that runs twice is told apart from one that runs once, counted, and a hazard.
#[test]
fn x12_a_deleter_that_runs_twice_is_a_hazard() {
    let ledger = ledger();
    let id = ledger.open(&array(Label::NUMPY, 0x1000, &[3]), None);
    assert!(ledger.close(id));
    let next = ledger.open(&array(Label::NUMPY, 0x1000, &[3]), None);
    assert_ne!(next, id, "the place is used again, the id is not");
    assert!(!ledger.close(id));
    assert!(!ledger.close(HolderId::from_raw(0xDEAD_BEEF_DEAD_BEEF)));
    assert!(ledger.close(next));
    assert!(ledger.close(HolderId::NONE), "nothing was recorded, so nothing is wrong");
    assert_eq!(ledger.counted(Counter::DoubleClosed), 2);
    assert_eq!(ledger.hazards().len(), 2);
    assert_eq!(ledger.hazard_count(), 2);
    assert!(ledger.hazards().iter().all(|hazard| hazard.code == Code::CP01));
}

/// Ten elements of a ten-megabyte array keep all of it; the ratio says so.
#[test]
fn x18_a_small_view_that_pins_a_large_buffer_shows_as_a_ratio() {
    let ledger = ledger();
    let slice = HolderDesc { alloc: Some((0x10_0000, 10_000_000)), ..array(Label::TORCH, 0x10_0000 + 800, &[10]) };
    let slice_id = ledger.open(&slice, None);
    let buffer = &ledger.live()[0];
    assert_eq!((buffer.len, buffer.used_bytes), (10_000_000, 80));
    assert!(buffer.pinned_ratio < 1e-5);
    assert!(ledger.text_report().contains("views of 80 B keep 9.5 MiB  (HT02)"), "{}", ledger.text_report());

    // The owner sees all of it, but what keeps it is the small view that was lent.
    let whole = array(Label::NUMPY, 0x10_0000, &[1_250_000]);
    ledger.open(&whole, None);
    ledger.close(slice_id);
    assert_eq!(ledger.live()[0].used_bytes, 10_000_000, "nobody else holds it");
    ledger.open(&HolderDesc { role: Role::Holder, ..slice }, None);
    assert_eq!(ledger.live()[0].used_bytes, 80);

    // A column touches its elements, not the stretch between them; a broadcast touches its element once.
    let column = HolderDesc { shape: &[1250], strides: &[1000], ..held_by(Label::JAX, &whole) };
    ledger.open(&column, None);
    assert_eq!(ledger.live()[0].used_bytes, 80 + 10_000);
    let broadcast = HolderDesc { address: 0x10_0000 + 9_999_992, shape: &[1000], strides: &[0], ..column };
    ledger.open(&broadcast, None);
    assert_eq!(ledger.live()[0].used_bytes, 80 + 10_000 + 8);
}

/// Three frameworks, none of which knows of the other two, on one allocation.
#[test]
fn x25_the_alias_graph_spans_three_frameworks_without_common_handles() {
    let ledger = ledger();
    let cuda = Device::new(DeviceKind::CUDA, 0);
    let whole = HolderDesc { device: cuda, ..array(Label::TORCH, 0x7F00_0000, &[100]) };
    let torch = ledger.open(&whole, None);
    // Imported by raw pointer: no edge, no allocation.
    let half = HolderDesc { address: 0x7F00_0000 + 400, shape: &[50], alloc: None, ..held_by(Label::CUPY, &whole) };
    let cupy = ledger.open(&half, None);
    let quarter = HolderDesc { shape: &[25], framework: Label::JAX, ..half };
    let jax = ledger.open(&quarter, Some(&share(cupy, Label::CUPY, &[])));
    // The same address on another device is other memory.
    let other = ledger.open(&HolderDesc { device: Device::new(DeviceKind::CUDA, 1), ..whole }, None);

    let live = ledger.live();
    assert_eq!(live.len(), 2);
    let buffer = ledger.owner(cuda, 0x7F00_0000 + 799).expect("the last byte");
    assert_eq!(buffer.owner.as_ref().map(|owner| owner.framework), Some("torch"));
    assert_eq!(buffer.holders.iter().map(|holder| holder.framework).collect::<Vec<_>>(), ["cupy", "jax"]);
    assert!(ledger.owner(cuda, 0x7F00_0000 + 800).is_none());
    let at = |offset: u64| ledger.holders(cuda, 0x7F00_0000 + offset).iter().map(|h| h.framework).collect::<Vec<_>>();
    assert_eq!((at(0), at(400), at(600)), (vec!["torch"], vec!["torch", "cupy", "jax"], vec!["torch", "cupy"]));
    assert_eq!(ledger.aliases(jax).len(), 2);
    assert!(ledger.aliases(other).is_empty());
    assert_ne!(ledger.holder(other).expect("open").buffer, ledger.holder(torch).expect("open").buffer);

    // Without torch's record nothing says how large the allocation is, but it is still the buffer that was seen.
    ledger.close(torch);
    let after = ledger.owner(cuda, 0x7F00_0000 + 400).expect("cupy and jax hold it");
    assert_eq!((after.id, after.owner), (buffer.id, None));
}

/// Two views that were once seen to be in one buffer stay in it when the record that showed it is closed.
#[test]
fn x25_what_was_seen_to_be_one_buffer_stays_one() {
    let ledger = ledger();
    let whole = array(Label::NUMPY, 0x1000, &[10]);
    let first = HolderDesc { shape: &[2], alloc: None, ..held_by(Label::TORCH, &whole) };
    let last = HolderDesc { address: 0x1000 + 64, ..first };
    let (first, last) = (ledger.open(&first, None), ledger.open(&last, None));
    let ids: Vec<u64> = ledger.live().iter().map(|buffer| buffer.id).collect();
    assert_eq!(ids, [1, 2], "nothing shows yet that they are one");
    let bridge = ledger.open(&whole, None);
    assert_eq!(ledger.live().iter().map(|buffer| buffer.id).collect::<Vec<_>>(), [1], "the older id stays");
    ledger.close(bridge);
    assert_eq!(ledger.live().len(), 1);
    ledger.close(first);
    assert_eq!(ledger.holder(last).expect("open").buffer, 1);
    ledger.close(last);
    let reused = ledger.open(&whole, None);
    let buffer = &ledger.live()[0];
    assert_eq!((buffer.id, buffer.generation), (3, 2), "the same address, another buffer");
    ledger.close(reused);
}

/// What leaked since a mark: opened after it and still open.
#[test]
fn leaks_since_a_mark_are_what_was_opened_after_it_and_is_still_open() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let before = ledger.open(&a, None);
    let mark = ledger.mark();
    assert!(ledger.leaks(mark).is_empty());
    let closed = ledger.open(&a, None);
    let leaked = ledger.open(&HolderDesc { site: Label::intern("loop.py:9"), ..a }, None);
    ledger.close(closed);
    ledger.close(before);
    let leaks = ledger.leaks(mark);
    assert_eq!(leaks.len(), 1);
    assert_eq!((leaks[0].id, leaks[0].site), (leaked, "loop.py:9"));
    assert!(ledger.leaks(ledger.mark()).is_empty());
}

/// Levels change at run time; what was opened at level 2 closes at any level.
#[test]
fn levels_change_while_records_are_open() {
    let ledger = ledger();
    let a = array(Label::NUMPY, 0x1000, &[3]);
    let recorded = ledger.open(&a, None);
    ledger.set_level(Level::Counters);
    let counted = ledger.open(&held_by(Label::TORCH, &a), Some(&share(recorded, Label::NUMPY, &[])));
    let edge = copy(recorded, Label::NUMPY, Steps::FRESH, &[], 24);
    assert_eq!(ledger.open(&array(Label::JAX, 0x2000, &[3]), Some(&edge)), HolderId::NONE);
    assert_eq!(counted, HolderId::NONE);
    let stats = ledger.stats();
    assert_eq!((stats.opened, stats.live.holders, stats.handovers.len()), (3, 1, 2));
    assert_eq!((stats.copied[0].code, stats.copied[0].bytes), (None, 24));

    ledger.set_level(Level::Off);
    assert_eq!(ledger.open(&a, Some(&edge)), HolderId::NONE);
    ledger.reject(Label::NUMPY, Label::TORCH, Code::RO01);
    ledger.hazard(Code::AL01, &[], "nobody listens".to_owned());
    ledger.count(Counter::DeferredDrops);
    assert!(ledger.close(recorded), "opened at level 2, closed at level 0");
    assert!(!ledger.close(recorded));
    let stats = ledger.stats();
    assert_eq!((stats.opened, stats.closed, stats.live.holders), (3, 1, 0));
    assert!(stats.refused.is_empty() && stats.hazards.is_empty() && stats.counters.is_empty());

    ledger.set_level(Level::Canaries);
    assert_eq!(ledger.level(), Level::HIGHEST);
}

/// Nothing that a caller can say makes the ledger panic.
#[test]
fn bad_input_is_recorded_and_harms_nothing() {
    let ledger = ledger();
    let a = array(Label::NUMPY, u64::MAX - 4, &[3]);
    let long: Vec<i64> = vec![2; 200];
    for holder in [
        a,
        HolderDesc { alloc: Some((u64::MAX, u64::MAX)), ..a },
        HolderDesc { shape: &[-3], ..a },
        HolderDesc { shape: &[3, 3], strides: &[1], ..a },
        HolderDesc { shape: &[i64::MAX, i64::MAX], strides: &[i64::MIN, i64::MIN], ..a },
        HolderDesc { shape: &long, strides: &long, ..a },
        HolderDesc { dtype: DType { code: 255, bits: 0, lanes: 0 }, address: 0, ..a },
        HolderDesc { device: Device::new(DeviceKind(-7), i32::MIN), ..a },
        HolderDesc { flags: HolderFlags::from_bits_retain(u32::MAX), ..a },
    ] {
        let id = ledger.open(&holder, None);
        assert!(!ledger.live().is_empty() && !ledger.text_report().is_empty());
        ledger.aliases(id);
        ledger.owner(holder.device, holder.address);
        ledger.holders(holder.device, holder.address);
        ledger.stats();
        assert!(ledger.write_json(std::io::sink(), true).is_ok());
        assert!(ledger.close(id));
    }
    ledger.hazard(Code::IN01, &[HolderId::from_raw(1)], "é".repeat(5000));
    assert!(ledger.hazards()[0].note.len() <= 1024);
}

/// Handles are not addresses: equal or unrelated.
#[test]
fn handles_of_opencl_buffers_are_compared_and_not_measured() {
    let ledger = ledger();
    let opencl = Device::new(DeviceKind::OPENCL, 0);
    let a = HolderDesc { device: opencl, alloc: None, ..array(Label::UNKNOWN, 0x1000, &[100]) };
    let first = ledger.open(&a, None);
    let near = ledger.open(&HolderDesc { address: 0x1010, ..a }, None);
    let same = ledger.open(&held_by(Label::TVM_FFI, &a), None);
    assert_eq!(ledger.live().len(), 2);
    let found = ledger.aliases(first);
    assert_eq!(
        found.iter().map(|alias| (alias.holder.id, alias.overlap)).collect::<Vec<_>>(),
        [(same, Overlap::Unknown)]
    );
    assert!(ledger.aliases(near).is_empty());
    assert_eq!(ledger.holders(opencl, 0x1000).len(), 2);
}

/// A tensor with no element holds no byte, and still has an owner.
#[test]
fn empty_tensors_are_recorded_and_alias_nothing() {
    let ledger = ledger();
    let empty = HolderDesc { alloc: None, ..array(Label::TORCH, 0, &[0]) };
    let a = ledger.open(&empty, None);
    let b = ledger.open(&held_by(Label::NUMPY, &empty), Some(&share(a, Label::TORCH, &[])));
    let c = ledger.open(&empty, None);
    let live = ledger.live();
    assert_eq!(live.len(), 2, "two null pointers are not one buffer; a share is");
    assert_eq!((live[0].len, live[0].holders.len(), live[1].holders.len()), (0, 1, 0));
    for id in [a, b, c] {
        assert!(ledger.aliases(id).is_empty());
        assert!(ledger.close(id));
    }
}
