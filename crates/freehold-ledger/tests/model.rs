//! Random programs against a model that is slow and obvious: byte sets for aliases, all pairs for buffers (A05, X25).

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use common::ledger;
use freehold_ledger::{Edge, HolderDesc, HolderFlags, HolderId, Label, Ledger, Level, Mark, Role, Sync};
use freehold_tensor::{Code, DType, Device, DeviceKind, Overlap, Steps, StrideUnit, Verdict};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const FRAMEWORKS: [Label; 4] = [Label::NUMPY, Label::TORCH, Label::JAX, Label::CUPY];

#[derive(Clone, Debug)]
struct View {
    device: Device,
    address: u64,
    dtype: DType,
    bytes: bool,
    shape: Vec<i64>,
    strides: Vec<i64>,
    alloc: Option<(u64, u64)>,
    framework: Label,
    owner: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Open { view: View, from: Option<Index>, to: Option<Label>, verdict: Verdict, reasons: Vec<Code>, bytes: u64 },
    Close(Index),
    CloseAgain(Index),
    SetLevel(Level),
    Flags { of: Index, set: u32, clear: u32 },
    Mark,
    Check,
}

fn view() -> impl Strategy<Value = View> {
    let dims =
        (0usize..4).prop_flat_map(|n| (proptest::collection::vec(0i64..4, n), proptest::collection::vec(-5i64..9, n)));
    let host = [Device::CPU, Device::new(DeviceKind::CUDA_HOST, 0)];
    let devices = vec![host[0], host[0], host[0], host[1], Device::new(DeviceKind::CUDA, 0)];
    let alloc = proptest::option::of((0u64..20, 1u64..40));
    let dtypes = vec![DType::U8, DType::I16, DType::F32, DType::C128];
    (select(devices), 1000u64..1400, select(dtypes), any::<bool>(), dims, alloc, 0..4usize, any::<bool>()).prop_map(
        |(device, address, dtype, bytes, (shape, strides), alloc, framework, owner)| {
            let alloc = alloc.map(|(before, len)| (address - before, before + len));
            View { device, address, dtype, bytes, shape, strides, alloc, framework: FRAMEWORKS[framework], owner }
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let reasons = proptest::collection::vec(select(Code::ALL.to_vec()), 0..6);
    let from = proptest::option::of(any::<Index>());
    let to = proptest::option::of(select(FRAMEWORKS.to_vec()));
    let open = (view(), from, to, any::<bool>(), reasons, 0u64..1 << 50).prop_map(
        |(view, from, to, share, reasons, bytes)| {
            let verdict = if share { Verdict::Share } else { Verdict::Copy };
            Op::Open { view, from, to, verdict, reasons, bytes: if share { 0 } else { bytes } }
        },
    );
    prop_oneof![
        12 => open,
        6 => any::<Index>().prop_map(Op::Close),
        1 => any::<Index>().prop_map(Op::CloseAgain),
        1 => select(vec![Level::Off, Level::Counters, Level::Records, Level::Records]).prop_map(Op::SetLevel),
        2 => (any::<Index>(), 0u32..128, 0u32..128).prop_map(|(of, set, clear)| Op::Flags { of, set, clear }),
        1 => Just(Op::Mark),
        4 => Just(Op::Check),
    ]
}

/// A live record as the model has it.
struct Live {
    id: HolderId,
    view: View,
    reached: BTreeSet<u64>,
    parent: HolderId,
    verdict: Option<Verdict>,
    reasons: Vec<Code>,
    bytes: u64,
    flags: u32,
    after_marks: usize,
    /// The buffer id that a former check reported.
    known: Option<u64>,
}

impl Live {
    fn is_host(&self) -> bool {
        self.view.device.kind != DeviceKind::CUDA
    }

    /// What keeps the two in one buffer, from their own data.
    fn touches(&self, other: &Live) -> bool {
        let pinned = |live: &Live| -> BTreeSet<u64> {
            let extent = match (live.reached.first(), live.reached.last()) {
                (Some(&lo), Some(&hi)) => lo..hi + 1,
                _ => 0..0,
            };
            let Some((base, len)) = live.view.alloc else { return extent.collect() };
            let alloc = base..base + len;
            if extent.is_empty() || extent.clone().any(|byte| alloc.contains(&byte)) {
                extent.chain(alloc).collect()
            } else {
                extent.collect()
            }
        };
        let shared = |a: &Live, b: &Live| a.verdict == Some(Verdict::Share) && a.parent == b.id;
        let same_id = self.known.is_some() && self.known == other.known;
        if same_id {
            return true;
        }
        if self.is_host() != other.is_host() {
            return false;
        }
        let (a, b) = (pinned(self), pinned(other));
        // An empty view inside another's bytes is told by its address.
        let inside =
            |empty: &Live, a: &BTreeSet<u64>, b: &BTreeSet<u64>| a.is_empty() && b.contains(&empty.view.address);
        shared(self, other)
            || shared(other, self)
            || !a.is_disjoint(&b)
            || inside(self, &a, &b)
            || inside(other, &b, &a)
    }
}

fn reached(view: &View) -> BTreeSet<u64> {
    let item = view.dtype.size().expect("whole bytes") as i64;
    let scale = if view.bytes { 1 } else { item };
    let mut firsts = vec![view.address as i64];
    for (&n, &s) in view.shape.iter().zip(&view.strides) {
        firsts = firsts.iter().flat_map(|first| (0..n).map(move |k| first + k * s * scale)).collect();
    }
    firsts.iter().flat_map(|first| (0..item).map(move |byte| (first + byte) as u64)).collect()
}

#[derive(Default)]
struct Model {
    live: Vec<Live>,
    closed: Vec<HolderId>,
    opened: u64,
    closed_twice: u64,
    handovers: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    copied: HashMap<Option<Code>, (u64, u64)>,
    copies: u64,
    marks: Vec<Mark>,
    last_buffer: u64,
}

impl Model {
    fn apply(&mut self, ledger: &Ledger, op: &Op) {
        match op {
            Op::Open { view, from, to, verdict, reasons, bytes } => {
                let to = to.unwrap_or(Label::NONE);
                let from = from.and_then(|which| (!self.live.is_empty()).then(|| which.index(self.live.len())));
                let edge = from.map(|i| Edge {
                    from: self.live[i].id,
                    from_framework: self.live[i].view.framework,
                    to,
                    verdict: *verdict,
                    steps: Steps::LAYOUT,
                    reasons,
                    bytes: *bytes,
                    sync: Sync::Event,
                });
                self.open(ledger, view, edge.as_ref());
            }
            Op::Close(which) => {
                if !self.live.is_empty() {
                    let live = self.live.remove(which.index(self.live.len()));
                    assert!(ledger.close(live.id));
                    self.closed.push(live.id);
                }
            }
            Op::CloseAgain(which) => {
                if !self.closed.is_empty() {
                    assert!(!ledger.close(self.closed[which.index(self.closed.len())]));
                    self.closed_twice += u64::from(ledger.level() != Level::Off);
                }
            }
            Op::SetLevel(level) => ledger.set_level(*level),
            Op::Flags { of, set, clear } => {
                if !self.live.is_empty() {
                    let i = of.index(self.live.len());
                    let live = &mut self.live[i];
                    let flags = HolderFlags::from_bits_retain;
                    assert!(ledger.update_flags(live.id, flags(*set), flags(*clear)));
                    live.flags = live.flags & !clear | set;
                }
            }
            Op::Mark => self.marks.push(ledger.mark()),
            Op::Check => self.check(ledger),
        }
    }

    fn open(&mut self, ledger: &Ledger, view: &View, edge: Option<&Edge<'_>>) {
        let holder = HolderDesc {
            role: if view.owner { Role::Owner } else { Role::Holder },
            framework: view.framework,
            site: Label::NONE,
            device: view.device,
            address: view.address,
            dtype: view.dtype,
            padded: false,
            unit: if view.bytes { StrideUnit::Bytes } else { StrideUnit::Elements },
            shape: &view.shape,
            strides: &view.strides,
            alloc: view.alloc,
            flags: HolderFlags::empty(),
        };
        let id = ledger.open(&holder, edge);
        if ledger.level() == Level::Off {
            assert_eq!(id, HolderId::NONE);
            return;
        }
        self.opened += 1;
        if let Some(edge) = edge {
            let to = if edge.to.is_none() { view.framework } else { edge.to };
            let key = (edge.from_framework.as_str(), to.as_str(), edge.verdict.name());
            *self.handovers.entry(key).or_default() += 1;
            if edge.verdict == Verdict::Copy {
                let volume = self.copied.entry(edge.reasons.first().copied()).or_default();
                *volume = (volume.0 + 1, volume.1 + edge.bytes);
                self.copies += 1;
            }
        }
        assert_eq!(id.is_none(), ledger.level() == Level::Counters);
        if !id.is_none() {
            assert!(!self.closed.contains(&id) && self.live.iter().all(|live| live.id != id), "an id was given twice");
            self.live.push(Live {
                id,
                view: view.clone(),
                reached: reached(view),
                parent: edge.map_or(HolderId::NONE, |edge| edge.from),
                verdict: edge.map(|edge| edge.verdict),
                reasons: edge.map_or(Vec::new(), |edge| edge.reasons.to_vec()),
                bytes: edge.map_or(0, |edge| edge.bytes),
                flags: 0,
                after_marks: self.marks.len(),
                known: None,
            });
        }
    }

    /// The live records by buffer, from all pairs.
    fn buffers(&self) -> Vec<Vec<usize>> {
        let mut group: Vec<usize> = (0..self.live.len()).collect();
        loop {
            let mut changed = false;
            for i in 0..group.len() {
                for j in 0..group.len() {
                    if group[i] > group[j] && self.live[i].touches(&self.live[j]) {
                        group[i] = group[j];
                        changed = true;
                    } else if group[i] != group[j] && self.live[i].touches(&self.live[j]) {
                        group[j] = group[i];
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        group.iter().enumerate().for_each(|(i, g)| members.entry(*g).or_default().push(i));
        members.into_values().collect()
    }

    fn check(&mut self, ledger: &Ledger) {
        self.check_buffers(ledger);
        self.check_aliases(ledger);
        self.check_totals(ledger);
    }

    fn check_buffers(&mut self, ledger: &Ledger) {
        let reports = ledger.live();
        let expected = self.buffers();
        let of_report: BTreeSet<BTreeSet<HolderId>> =
            reports.iter().map(|buffer| buffer.members().map(|holder| holder.id).collect()).collect();
        let of_model: BTreeSet<BTreeSet<HolderId>> =
            expected.iter().map(|members| members.iter().map(|i| self.live[*i].id).collect()).collect();
        assert_eq!(of_report, of_model);

        let ids: HashSet<u64> = reports.iter().map(|buffer| buffer.id).collect();
        assert_eq!(ids.len(), reports.len(), "two buffers have one id");
        let before = self.last_buffer;
        for report in &reports {
            let members: BTreeSet<HolderId> = report.members().map(|holder| holder.id).collect();
            let known = self.live.iter().filter(|live| members.contains(&live.id)).filter_map(|live| live.known).min();
            match known {
                Some(known) => assert_eq!(report.id, known, "an id changed"),
                None => assert!(report.id > before, "an id was used again"),
            }
            self.last_buffer = self.last_buffer.max(report.id);
            assert!(report.owner.as_ref().is_none_or(|owner| owner.role == Role::Owner));
            assert!(report.used_bytes <= report.len && (0.0..=1.0).contains(&report.pinned_ratio));
            for holder in report.members() {
                assert_eq!(holder.buffer, report.id);
                let i = self.live.iter().position(|live| live.id == holder.id).expect("open");
                self.check_holder(ledger, i, holder);
                self.live[i].known = Some(report.id);
            }
        }
    }

    fn check_holder(&self, ledger: &Ledger, i: usize, holder: &freehold_ledger::HolderReport) {
        let Live { view, reached, .. } = &self.live[i];
        assert_eq!((&holder.shape, &holder.strides), (&view.shape, &view.strides));
        assert_eq!((holder.address, holder.dtype, holder.device), (view.address, view.dtype, view.device));
        assert_eq!((holder.parent, holder.verdict), (self.live[i].parent, self.live[i].verdict));
        assert_eq!((&holder.reasons, holder.bytes), (&self.live[i].reasons, self.live[i].bytes));
        assert_eq!(holder.flags.bits(), self.live[i].flags);
        if let (Some(&lo), Some(&hi)) = (reached.first(), reached.last()) {
            assert_eq!((holder.extent_start, holder.extent_bytes), (lo, hi + 1 - lo));
            for address in [lo, hi] {
                assert_eq!(ledger.owner(view.device, address).expect("held").id, holder.buffer);
                assert!(ledger.holders(view.device, address).iter().any(|found| found.id == holder.id));
            }
        } else {
            assert_eq!(holder.extent_bytes, 0);
        }
    }

    fn check_aliases(&self, ledger: &Ledger) {
        for live in &self.live {
            let found: BTreeMap<HolderId, (u64, u64)> = ledger
                .aliases(live.id)
                .into_iter()
                .map(|alias| {
                    assert_eq!(alias.overlap, Overlap::Some, "these are small enough to be exact");
                    (alias.holder.id, (alias.start, alias.start + alias.bytes))
                })
                .collect();
            let expected: BTreeMap<HolderId, (u64, u64)> = self
                .live
                .iter()
                .filter(|other| other.id != live.id && other.is_host() == live.is_host())
                .filter(|other| !other.reached.is_disjoint(&live.reached))
                .map(|other| {
                    let ends = |set: &BTreeSet<u64>| (*set.first().expect("shared"), *set.last().expect("shared") + 1);
                    let (a, b) = (ends(&live.reached), ends(&other.reached));
                    (other.id, (a.0.max(b.0), a.1.min(b.1)))
                })
                .collect();
            assert_eq!(found, expected);
        }
    }

    fn check_totals(&self, ledger: &Ledger) {
        let stats = ledger.stats();
        assert_eq!((stats.opened, stats.closed), (self.opened, self.closed.len() as u64));
        assert_eq!(stats.live.holders, self.live.len() as u64);
        assert_eq!(ledger.counted(freehold_ledger::Counter::DoubleClosed), self.closed_twice);
        let handovers: BTreeMap<_, u64> =
            stats.handovers.iter().map(|h| ((h.from, h.to, h.verdict.name()), h.count)).collect();
        assert_eq!(handovers, self.handovers);
        let copied: HashMap<_, _> = stats.copied.iter().map(|c| (c.code, (c.count, c.bytes))).collect();
        assert_eq!(copied, self.copied);
        assert_eq!(ledger.copies().len() as u64, self.copies);
        for (i, mark) in self.marks.iter().enumerate() {
            let ids = |reports: Vec<freehold_ledger::HolderReport>| reports.iter().map(|r| r.id).collect::<Vec<_>>();
            let expected: Vec<HolderId> =
                self.live.iter().filter(|live| live.after_marks > i).map(|live| live.id).collect();
            assert_eq!(ids(ledger.leaks(*mark)), expected, "in the order they were opened");
        }
        let mut seen = BTreeSet::new();
        ledger.foreach(&mut |holder| seen.insert(holder.id));
        assert_eq!(seen, self.live.iter().map(|live| live.id).collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a05_x25_any_program_agrees_with_the_model(
        ops in proptest::collection::vec(op(), 1..if cfg!(miri) { 10 } else { 80 }),
    ) {
        let ledger = ledger();
        let mut model = Model::default();
        for op in &ops {
            model.apply(&ledger, op);
        }
        model.check(&ledger);
        for live in std::mem::take(&mut model.live) {
            assert!(ledger.close(live.id));
        }
        assert!(ledger.live().is_empty());
    }
}
