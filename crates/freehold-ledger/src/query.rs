//! Questions to the ledger.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use freehold_tensor::{Code, Device, Overlap, Strided, overlap};

use crate::clock;
use crate::index::{Group, Space, is_handle};
use crate::record::Record;
use crate::report::{
    AliasReport, BufferReport, CopiedStats, CopyReport, CounterStats, DeviceStats, Findings, HandoverStats,
    HazardHolder, HazardReport, HazardStats, HolderReport, LiveStats, RefusedStats, SCHEMA, Snapshot, Stats,
};
use crate::tally::{Kind, Pair, Volume, Way};
use crate::{Counter, HolderId, Ledger, Mark, Party, Role, order};

impl Ledger {
    /// Every live buffer with everyone who holds it, by id.
    pub fn live(&self) -> Vec<BufferReport> {
        let index = self.index();
        let mut buffers = Vec::with_capacity(index.groups.len());
        buffers.extend(index.groups.iter().filter_map(|group| self.buffer(group)));
        buffers
    }

    /// The buffer at an address, with its owner and holders; `None` if nobody on the ledger holds one there.
    pub fn owner(&self, device: Device, address: u64) -> Option<BufferReport> {
        let index = self.index();
        self.buffer(index.group_at(device, address)?)
    }

    /// The holders whose view may reach an address: its lowest byte is not after it, its highest not before it.
    pub fn holders(&self, device: Device, address: u64) -> Vec<HolderReport> {
        let index = self.index();
        let Some(group) = index.group_at(device, address) else { return Vec::new() };
        let handle = is_handle(device.kind);
        let mut members = self.members(group);
        members.retain(|holder| {
            let start = holder.extent_start;
            if handle { holder.address == address } else { address >= start && address - start < holder.extent_bytes }
        });
        members
    }

    /// The open holder with an id.
    pub fn holder(&self, id: HolderId) -> Option<HolderReport> {
        let index = self.index();
        Some(self.report(index.buffer_of(id), &self.record(id)?))
    }

    /// The other live holders that share a byte with a holder: by exact overlap, strides included.
    pub fn aliases(&self, of: HolderId) -> Vec<AliasReport> {
        let Some(record) = self.record(of) else { return Vec::new() };
        let Some(view) = record.strided() else { return Vec::new() };
        let mut found = self.aliases_of(&view, record.device);
        found.retain(|alias| alias.holder.id != of);
        found
    }

    /// The live holders that share a byte with a view: by exact overlap, strides included.
    ///
    /// The byte range of each is where both may reach; only the [`Overlap`] is exact. A view whose layout is not
    /// valid has no aliases.
    pub fn aliases_of(&self, view: &Strided<'_>, device: Device) -> Vec<AliasReport> {
        let Ok(extent) = view.layout.validate(view.dtype, view.padded, view.unit) else { return Vec::new() };
        let index = self.index();
        let handle = is_handle(device.kind);
        let lo = view.address.saturating_add_signed(extent.lo);
        let hi = view.address.saturating_add_signed(extent.hi);
        let range = if handle { (view.address, view.address.saturating_add(1)) } else { (lo, hi) };
        let mut found = Vec::new();
        for group in index.groups_in(device, range.0, range.1) {
            for &id in group.members() {
                let Some(record) = self.record(id) else { continue };
                let Some(other) = record.strided() else { continue };
                if Space::of(record.device) != Space::of(device) {
                    continue;
                }
                let (other_lo, other_hi) = record.extent();
                let (start, end) = (lo.max(other_lo), hi.min(other_hi));
                // Views of one handle have offsets that the pointer does not show.
                let shared = if !handle {
                    overlap(view, &other)
                } else if record.address == view.address && lo < hi && other_lo < other_hi {
                    Overlap::Unknown
                } else {
                    Overlap::None
                };
                if shared.may() {
                    let holder = self.report(group.id, &record);
                    found.push(AliasReport { holder, overlap: shared, start, bytes: end.saturating_sub(start) });
                }
            }
        }
        found
    }

    /// The holders that were opened after a mark and are still open, in that order.
    ///
    /// ```
    /// use freehold_ledger::{Ledger, Level};
    ///
    /// static LEDGER: Ledger = Ledger::new(Level::Records);
    ///
    /// let start = LEDGER.mark();
    /// assert!(LEDGER.leaks(start).is_empty());
    /// ```
    pub fn leaks(&self, since: Mark) -> Vec<HolderReport> {
        let index = self.index();
        let mut found = Vec::new();
        self.each_record(&mut |record| {
            if record.epoch >= since.get() {
                found.push((record.opened, self.report(index.buffer_of(record.id), &record)));
            }
            true
        });
        order::by_key(&mut found, |(opened, report)| (*opened, report.id));
        found.into_iter().map(|(_, report)| report).collect()
    }

    /// Calls `f` with every live holder until it says `false`. No lock is held meanwhile.
    ///
    /// ```
    /// use freehold_ledger::{Ledger, Level};
    ///
    /// # use freehold_ledger::example::ARRAY;
    /// let ledger = Ledger::new(Level::Records);
    /// for _ in 0..3 {
    ///     ledger.open(&ARRAY, None);
    /// }
    /// let mut seen = 0;
    /// ledger.foreach(&mut |holder| {
    ///     seen += holder.extent_bytes;
    ///     true
    /// });
    /// assert_eq!(seen, 36);
    /// ```
    pub fn foreach(&self, f: &mut dyn FnMut(&HolderReport) -> bool) {
        let index = self.index();
        self.each_record(&mut |record| f(&self.report(index.buffer_of(record.id), &record)));
    }

    /// The most recent copies, the oldest first; they stay after everything was released.
    pub fn copies(&self) -> Vec<CopyReport> {
        let start = self.start();
        let mut copies = Vec::new();
        for (_, shard) in self.each_shard() {
            copies.extend(shard.cold.lock().copies.iter().cloned());
        }
        order::by_key(&mut copies, |copy| copy.at);
        let report = |copy: crate::tally::Copy| CopyReport {
            holder: copy.holder,
            from: copy.from.as_str(),
            to: copy.to.as_str(),
            bytes: copy.bytes,
            steps: copy.steps,
            reasons: copy.reasons.into_vec(),
            site: copy.site.as_str(),
            at_ns: copy.at.saturating_sub(start),
            thread: copy.thread,
        };
        copies.into_iter().map(report).collect()
    }

    /// The most recent hazards, the oldest first.
    pub fn hazards(&self) -> Vec<HazardReport> {
        self.look();
        let hazards = self.hazards.lock().recent.clone();
        let start = self.start();
        let holder = |party: &Party| HazardHolder {
            id: party.id,
            framework: party.framework.as_str(),
            site: party.site.as_str(),
        };
        let report = |hazard: crate::ledger::Hazard| HazardReport {
            code: hazard.code,
            holders: hazard.holders.iter().map(holder).collect(),
            note: hazard.note,
            at_ns: hazard.at.saturating_sub(start),
        };
        hazards.into_iter().map(report).collect()
    }

    /// Totals.
    pub fn stats(&self) -> Stats {
        self.look();
        let mut handovers: HashMap<Pair, u64> = HashMap::new();
        let mut copied: HashMap<Option<Code>, Volume> = HashMap::new();
        let mut refused: HashMap<_, u64> = HashMap::new();
        let (mut opened, mut closed, mut copies_dropped) = (0, 0, 0);
        for (_, shard) in self.each_shard() {
            // Closed before opened, so that a record opened and closed meanwhile is not closed only.
            closed += shard.closed();
            opened += shard.opened() + shard.unrecorded.load(std::sync::atomic::Ordering::Relaxed);
            shard.pairs.each(&mut |pair, n| *handovers.entry(pair).or_default() += n);
            let cold = shard.cold.lock();
            merge(&mut handovers, &cold.handovers);
            merge(&mut refused, &cold.refused);
            cold.copied.iter().for_each(|(kind, volume)| copied.entry(kind.reasons().next()).or_default().add(*volume));
            copies_dropped += cold.copies_dropped;
        }
        let (hazards, hazards_dropped) = {
            let hazards = self.hazards.lock();
            (hazards.by_code.clone().unwrap_or_default(), hazards.dropped)
        };
        let handover = |((from, to, verdict), count): (Pair, u64)| HandoverStats {
            from: from.as_str(),
            to: to.as_str(),
            verdict,
            count,
        };
        let mut stats = Stats {
            level: self.level(),
            opened,
            closed,
            live: self.live_stats(),
            handovers: handovers.into_iter().map(handover).collect(),
            copied: copied
                .into_iter()
                .map(|(code, Volume { count, bytes })| CopiedStats { code, count, bytes })
                .collect(),
            refused: refused
                .into_iter()
                .map(|((from, to, code), count)| RefusedStats { from: from.as_str(), to: to.as_str(), code, count })
                .collect(),
            hazards: hazards.into_iter().map(|(code, count)| HazardStats { code, count }).collect(),
            counters: Counter::ALL
                .iter()
                .map(|counter| CounterStats { name: counter.name(), count: self.counted(*counter) })
                .filter(|counter| counter.count != 0)
                .collect(),
            copies_dropped,
            hazards_dropped,
        };
        order::by_key(&mut stats.handovers, |h| (h.from, h.to, h.verdict as u8));
        order::by_key(&mut stats.copied, |c| c.code);
        order::by_key(&mut stats.refused, |r| (r.from, r.to, r.code));
        order::by_key(&mut stats.hazards, |h| h.code);
        stats
    }

    fn live_stats(&self) -> LiveStats {
        let index = self.index();
        let mut live = LiveStats { holders: 0, buffers: 0, bytes: 0, by_device: Vec::new() };
        for group in &index.groups {
            let members = group.members();
            // The device as the first member names it: a space may have several names for one memory.
            let Some(device) = members.iter().find_map(|id| self.record(*id)).map(|record| record.device) else {
                continue;
            };
            let (holders, bytes) = (members.len() as u64, buffer_len(group, device));
            let position = live.by_device.iter().position(|d| d.device == device).unwrap_or_else(|| {
                live.by_device.push(DeviceStats { device, holders: 0, buffers: 0, bytes: 0 });
                live.by_device.len() - 1
            });
            let of = &mut live.by_device[position];
            of.holders += holders;
            of.buffers += 1;
            of.bytes = of.bytes.saturating_add(bytes);
            live.holders += holders;
            live.buffers += 1;
            live.bytes = live.bytes.saturating_add(bytes);
        }
        order::by_key(&mut live.by_device, |d| d.device);
        self.note_peak(live.bytes, &index);
        live
    }

    /// All copies by kind, in no order.
    fn kinds(&self) -> Vec<(Kind, Volume)> {
        let mut kinds: HashMap<Kind, Volume> = HashMap::new();
        for (_, shard) in self.each_shard() {
            let cold = shard.cold.lock();
            cold.copied.iter().for_each(|(kind, volume)| kinds.entry(*kind).or_default().add(*volume));
        }
        kinds.into_iter().collect()
    }

    /// How often the host waited for a device, in no order.
    fn waited(&self) -> Vec<(Way, u64)> {
        let mut waited: HashMap<Way, u64> = HashMap::new();
        for (_, shard) in self.each_shard() {
            merge(&mut waited, &shard.cold.lock().waited);
        }
        waited.into_iter().collect()
    }

    /// Everything the ledger knows, for a file. Its advice is for Rust, until a face asks for another language
    /// ([`Snapshot::in_dialect`]).
    pub fn snapshot(&self) -> Snapshot {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let taken_ns = clock::exact().saturating_sub(self.start());
        let (stats, mut buffers, mark) = (self.stats(), self.live(), self.newest_mark());
        let past = self.past();
        let members = buffers.iter_mut().flat_map(|buffer| buffer.owner.iter_mut().chain(&mut buffer.holders));
        for holder in members {
            let exact = past.exactly(holder.id).map(|at| at.saturating_sub(self.start()));
            holder.opened_ns = exact.unwrap_or(holder.opened_ns);
        }
        let (history, peak) = self.history(past);
        let findings = Findings::of(&buffers, &self.kinds(), &self.waited(), peak, taken_ns, mark);
        Snapshot {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            taken_unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            taken_ns,
            mark: mark.get(),
            stats,
            buffers,
            copies: self.copies(),
            hazards: self.hazards(),
            findings,
            history,
        }
    }

    /// Writes [`Ledger::snapshot`] as JSON (`docs/ledger-schema.json`), with a newline at the end.
    ///
    /// ```
    /// use freehold_ledger::{Ledger, Level, Snapshot};
    ///
    /// static LEDGER: Ledger = Ledger::new(Level::Records);
    ///
    /// let mut text = Vec::new();
    /// LEDGER.write_json(&mut text, true)?;
    /// let read = Snapshot::from_json(std::str::from_utf8(&text).expect("JSON is text")).expect("it was just written");
    /// assert!(read.buffers.is_empty());
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// What `w` returns.
    pub fn write_json(&self, w: impl io::Write, pretty: bool) -> io::Result<()> {
        self.snapshot().write_json(w, pretty)
    }

    fn members(&self, group: &Group) -> Vec<HolderReport> {
        let ids = group.members().iter();
        ids.filter_map(|id| Some(self.report(group.id, &self.record(*id)?))).collect()
    }

    /// A buffer, unless all of its holders were closed since the index was made.
    fn buffer(&self, group: &Group) -> Option<BufferReport> {
        // A million buffers of one holder each are the usual large ledger: nothing is reserved for what is not there.
        let ids = group.members();
        let mut records: Vec<Record> = Vec::with_capacity(ids.len());
        records.extend(ids.iter().filter_map(|id| self.record(*id)));
        let owner = records.iter().position(|record| record.role == Role::Owner);
        let device = records.get(owner.unwrap_or(0))?.device;
        let users = records.iter().enumerate().filter(|(i, _)| records.len() == 1 || Some(*i) != owner);
        let len = buffer_len(group, device);
        let used_bytes = used_bytes(users.map(|(_, record)| record)).min(len);
        let allocation_known = records.iter().any(|record| record.alloc.is_some_and(|(_, len)| len != 0));
        let others = records.iter().enumerate().filter(|(i, _)| Some(*i) != owner);
        let mut holders = Vec::with_capacity(records.len() - usize::from(owner.is_some()));
        holders.extend(others.map(|(_, record)| self.report(group.id, record)));
        let owner = owner.map(|i| self.report(group.id, &records[i]));
        Some(BufferReport {
            id: group.id,
            generation: group.generation,
            device,
            base: group.lo,
            len,
            allocation_known,
            owner,
            holders,
            used_bytes,
            pinned_ratio: if len == 0 { 1.0 } else { used_bytes as f64 / len as f64 },
        })
    }

    pub(crate) fn report(&self, buffer: u64, record: &Record) -> HolderReport {
        let (extent_start, extent_end) = record.extent();
        let source = record.source.as_ref();
        HolderReport {
            id: record.id,
            buffer,
            role: record.role,
            framework: record.framework.as_str(),
            site: record.site.as_str(),
            device: record.device,
            address: record.address,
            extent_start,
            extent_bytes: extent_end - extent_start,
            dtype: record.dtype,
            padded: record.padded,
            shape: record.shape.to_vec(),
            strides: record.strides.to_vec(),
            stride_unit: record.unit,
            flags: record.flags,
            opened_ns: record.opened_at().saturating_sub(self.start()),
            thread: record.thread,
            mark: record.epoch,
            parent: source.map_or(HolderId::NONE, |source| source.from),
            from: source.map(|source| source.framework.as_str()),
            verdict: source.map(|source| source.verdict),
            steps: source.map_or_else(Default::default, |source| source.steps),
            reasons: source.map_or_else(Vec::new, |source| source.reasons.to_vec()),
            bytes: source.map_or(0, |source| source.bytes),
            sync: source.map_or_else(Default::default, |source| source.sync),
        }
    }
}

/// A handle has no length that the ledger knows.
pub(crate) fn buffer_len(group: &Group, device: Device) -> u64 {
    if is_handle(device.kind) { 0 } else { group.hi - group.lo }
}

/// At most how many bytes some views touch together: within each stretch that their extents cover, no more than the
/// sum of what each touches.
fn used_bytes<'a>(records: impl Iterator<Item = &'a Record>) -> u64 {
    let mut views: Vec<(u64, u64, u64)> = records
        .map(|record| {
            let (lo, hi) = record.extent();
            (lo, hi, record.touched_bytes())
        })
        .collect();
    order::by_key(&mut views, |view| *view);
    let mut total = 0u64;
    let mut stretch: Option<(u64, u64, u64)> = None;
    for (lo, hi, touched) in views {
        stretch = Some(match stretch {
            Some((from, to, sum)) if lo <= to => (from, to.max(hi), sum.saturating_add(touched)),
            last => {
                total = total.saturating_add(last.map_or(0, |(from, to, sum)| sum.min(to - from)));
                (lo, hi, touched)
            }
        });
    }
    total.saturating_add(stretch.map_or(0, |(from, to, sum)| sum.min(to - from)))
}

fn merge<K: Eq + Hash + Copy, S>(into: &mut HashMap<K, u64>, from: &HashMap<K, u64, S>) {
    from.iter().for_each(|(key, n)| *into.entry(*key).or_default() += n);
}
