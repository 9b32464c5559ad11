//! What is worth a look, worked out from the rest of a snapshot.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use freehold_tensor::Steps;

use crate::report::{
    BufferReport, CopyGroup, Findings, FrameworkStats, HolderReport, Lent, LentReport, PeakReport, PinnedHolder,
    PinnedReport, WaitGroup,
};
use crate::tally::{Kind, Volume, Way};
use crate::{Dialect, HolderFlags, Mark, order};

/// The most kinds of copies, and of call sites that lend, that a snapshot lists.
const LISTED: usize = 1000;
/// The most views that are named for one large buffer.
const VIEWS_NAMED: usize = 16;

impl Findings {
    pub(crate) fn of(
        buffers: &[BufferReport],
        copied: &[(Kind, Volume)],
        waited: &[(Way, u64)],
        peak: Option<PeakReport>,
        now_ns: u64,
        mark: Mark,
    ) -> Findings {
        let mut findings = Findings {
            copies: copies(copied),
            waits: waits(waited),
            pinned: pinned(buffers),
            lent: lent(buffers, now_ns, mark),
            frameworks: frameworks(buffers, copied),
            peak,
        };
        findings.advise(Dialect::Rust);
        findings
    }
}

fn copies(copied: &[(Kind, Volume)]) -> Vec<CopyGroup> {
    let group = |(kind, volume): &(Kind, Volume)| {
        let (steps, reasons) = (Steps::from_bits_retain(kind.steps), kind.reasons().collect::<Vec<_>>());
        CopyGroup {
            from: kind.from.as_str(),
            to: kind.to.as_str(),
            site: kind.site.as_str(),
            asked: reasons.is_empty() && steps == Steps::FRESH,
            fix: String::new(),
            steps,
            reasons,
            count: volume.count,
            bytes: volume.bytes,
        }
    };
    let mut groups: Vec<CopyGroup> = copied.iter().map(group).collect();
    fn key(g: &CopyGroup) -> impl Ord {
        (Reverse(g.bytes), g.from, g.to, g.site, g.steps.bits(), &g.reasons)
    }
    order::by(&mut groups, |a, b| key(a).cmp(&key(b)));
    groups.truncate(LISTED);
    groups
}

fn waits(waited: &[(Way, u64)]) -> Vec<WaitGroup> {
    let group = |&((from, to, site), count): &(Way, u64)| WaitGroup {
        from: from.as_str(),
        to: to.as_str(),
        site: site.as_str(),
        count,
    };
    let mut groups: Vec<WaitGroup> = waited.iter().map(group).collect();
    order::by_key(&mut groups, |g| (Reverse(g.count), g.from, g.to, g.site));
    groups.truncate(LISTED);
    groups
}

/// Whether views of less than a tenth keep a buffer of more than a mebibyte.
fn pins(buffer: &BufferReport) -> bool {
    buffer.allocation_known && buffer.len > 1 << 20 && buffer.pinned_ratio < 0.1
}

fn pinned(buffers: &[BufferReport]) -> Vec<PinnedReport> {
    let report = |buffer: &BufferReport| {
        let views = || buffer.holders.iter().chain(buffer.owner.iter().filter(|_| buffer.holders.is_empty()));
        let named = views().take(VIEWS_NAMED).map(|holder| PinnedHolder {
            id: holder.id,
            framework: holder.framework,
            site: holder.site,
            bytes: holder.extent_bytes,
        });
        PinnedReport {
            buffer: buffer.id,
            device: buffer.device,
            len: buffer.len,
            used_bytes: buffer.used_bytes,
            frees: buffer.len - buffer.used_bytes,
            holders: named.collect(),
            fix: String::new(),
        }
    };
    let mut found: Vec<PinnedReport> = buffers.iter().filter(|buffer| pins(buffer)).map(report).collect();
    order::by_key(&mut found, |pinned| (Reverse(pinned.frees), pinned.buffer));
    found
}

/// In which way a view is lent.
fn state(holder: &HolderReport) -> Lent {
    let flags = holder.flags;
    if flags.contains(HolderFlags::EXPORTED) && !flags.contains(HolderFlags::CONSUMED) {
        Lent::Unconsumed
    } else if flags.contains(HolderFlags::FROZEN) {
        Lent::Frozen
    } else {
        Lent::Held
    }
}

fn lent(buffers: &[BufferReport], now_ns: u64, mark: Mark) -> Vec<LentReport> {
    struct Group<'a> {
        views: Vec<&'a HolderReport>,
        buffers: u64,
        /// The last buffer counted; the views of one follow each other.
        last: Option<u64>,
        bytes: u64,
    }
    let mut groups: BTreeMap<(Lent, &str, &str, &str), Group<'_>> = BTreeMap::new();
    for buffer in buffers {
        let alone = buffer.owner.iter().filter(|_| buffer.holders.is_empty());
        for view in buffer.holders.iter().chain(alone) {
            // An owner's record without a view beside it is a tensor of Freehold's that somebody keeps.
            let owns = view.role == crate::Role::Owner;
            let to = if owns { "freehold" } else { view.framework };
            let from = view.from.unwrap_or(if owns { view.framework } else { "" });
            let group = groups.entry((state(view), from, to, view.site)).or_insert_with(|| Group {
                views: Vec::new(),
                buffers: 0,
                last: None,
                bytes: 0,
            });
            group.views.push(view);
            if group.last != Some(buffer.id) {
                group.last = Some(buffer.id);
                group.buffers += 1;
                group.bytes = group.bytes.saturating_add(buffer.len);
            }
        }
    }
    let report = |((state, from, to, site), group): ((Lent, &str, &str, &str), Group<'_>)| {
        let oldest = group.views.iter().min_by_key(|view| (view.opened_ns, view.id))?;
        let youngest = group.views.iter().map(|view| view.opened_ns).max()?;
        let count = group.views.len() as u64;
        // Mark 1 is the beginning of the ledger: nobody made it.
        let after = |view: &&&HolderReport| mark.get() > 1 && view.mark >= mark.get();
        let since_mark = group.views.iter().filter(after).count() as u64;
        let [from, to, site] = [from, to, site].map(|name| crate::Label::intern(name).as_str());
        Some(LentReport {
            state,
            from,
            to,
            site,
            count,
            since_mark,
            buffers: group.buffers,
            bytes: group.bytes,
            oldest_ns: now_ns.saturating_sub(oldest.opened_ns),
            youngest_ns: now_ns.saturating_sub(youngest),
            holder: oldest.id,
            buffer: oldest.buffer,
            fix: String::new(),
        })
    };
    let mut found: Vec<LentReport> = groups.into_iter().filter_map(report).collect();
    order::by_key(&mut found, |lent| (Reverse(lent.oldest_ns), lent.holder));
    found.truncate(LISTED);
    found
}

fn frameworks(buffers: &[BufferReport], copied: &[(Kind, Volume)]) -> Vec<FrameworkStats> {
    let mut found: BTreeMap<&'static str, FrameworkStats> = BTreeMap::new();
    let mut of = |framework: &'static str, change: &dyn Fn(&mut FrameworkStats)| {
        change(found.entry(framework).or_insert(FrameworkStats {
            framework,
            holders: 0,
            owned: 0,
            owned_bytes: 0,
            borrowed: 0,
            borrowed_bytes: 0,
            copied_in: 0,
            copied_out: 0,
        }));
    };
    for buffer in buffers {
        let owner = buffer.owner.as_ref().map(|owner| owner.framework);
        if let Some(owner) = owner {
            of(owner, &|stats| {
                stats.holders += 1;
                stats.owned += 1;
                stats.owned_bytes = stats.owned_bytes.saturating_add(buffer.len);
            });
        }
        let mut seen: Vec<&str> = owner.into_iter().collect();
        for holder in &buffer.holders {
            let first = !seen.contains(&holder.framework);
            seen.extend(first.then_some(holder.framework));
            of(holder.framework, &|stats| {
                stats.holders += 1;
                if first {
                    stats.borrowed += 1;
                    stats.borrowed_bytes = stats.borrowed_bytes.saturating_add(buffer.len);
                }
            });
        }
    }
    for (kind, volume) in copied {
        of(kind.to.as_str(), &|stats| stats.copied_in = stats.copied_in.saturating_add(volume.bytes));
        of(kind.from.as_str(), &|stats| stats.copied_out = stats.copied_out.saturating_add(volume.bytes));
    }
    found.into_values().collect()
}
