//! The ledger in plain text, to be read in ten seconds.

use std::fmt::Write;

use crate::report::{BufferReport, CopyReport, HolderReport, Snapshot};
use crate::{HolderFlags, Ledger, Role};

/// What [`Ledger::text_report_with`] shows beside the facts that are the same in every run of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextOptions {
    /// Addresses of buffers.
    pub addresses: bool,
    /// When each holder came to be, and the thread.
    pub times: bool,
    /// The most lines of a section; the rest is counted.
    pub max_lines: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        TextOptions { addresses: true, times: true, max_lines: 50 }
    }
}

impl TextOptions {
    /// Neither addresses nor times: two runs of one program give the same text.
    pub const STABLE: TextOptions = TextOptions { addresses: false, times: false, max_lines: 50 };
}

impl Ledger {
    /// What is live, who owns and holds it, what was copied and why, what is still lent, and what went wrong.
    pub fn text_report(&self) -> String {
        self.text_report_with(TextOptions::default())
    }

    /// [`Ledger::text_report`] with or without what differs from run to run.
    pub fn text_report_with(&self, options: TextOptions) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write(&mut out, &self.snapshot(), options);
        out
    }
}

fn write(out: &mut String, snapshot: &Snapshot, options: TextOptions) -> std::fmt::Result {
    let Snapshot { stats, buffers, copies, hazards, .. } = snapshot;
    let live = &stats.live;
    write!(out, "freehold ledger ({}): ", stats.level)?;
    write!(out, "{} live, {}, ", plural(live.buffers, "buffer"), bytes(live.bytes))?;
    writeln!(out, "{} open of {}", plural(live.holders, "holder"), stats.opened)?;

    section(out, "live", buffers, options, |out, buffer| write_buffer(out, buffer, options))?;

    let lent: Vec<&HolderReport> = buffers.iter().flat_map(|b| &b.holders).filter(|h| is_lent(h)).collect();
    section(out, "still lent", &lent, options, |out, holder| {
        let state = if holder.flags.contains(HolderFlags::FROZEN) {
            "frozen: the owner must not write"
        } else {
            "capsule handed out, not known to be consumed"
        };
        writeln!(out, "  buffer #{} to {}: {state}{}", holder.buffer, holder.framework, at(holder.site))
    })?;

    let pinned: Vec<&BufferReport> = buffers.iter().filter(|b| pins(b)).collect();
    section(out, "small views of large buffers", &pinned, options, |out, buffer| {
        let (used, len) = (bytes(buffer.used_bytes), bytes(buffer.len));
        writeln!(out, "  buffer #{}: views of {used} keep {len}  (HT02)", buffer.id)
    })?;

    let count: u64 = stats.copied.iter().map(|copied| copied.count).sum();
    let total = stats.copied.iter().fold(0u64, |sum, copied| sum.saturating_add(copied.bytes));
    let mut heading = format!("copies: {} in {}", bytes(total), plural(count, "copy"));
    if stats.copies_dropped != 0 {
        write!(heading, ", the last {} of them", copies.len())?;
    }
    section(out, &heading, &merge_copies(copies), options, write_copies)?;
    section(out, "refused", &stats.refused, options, |out, refused| {
        let (way, times) = (way(refused.from, refused.to), plural(refused.count, "time"));
        writeln!(out, "  {way:<20}  {}  {times}", refused.code)
    })?;
    section(out, "hazards", hazards, options, |out, hazard| {
        write!(out, "  {}  {}", hazard.code, hazard.note)?;
        let frameworks: Vec<&str> = hazard.holders.iter().map(|h| h.framework).filter(|f| !f.is_empty()).collect();
        if !frameworks.is_empty() {
            write!(out, "  (held by {})", frameworks.join(", "))?;
        }
        writeln!(out)
    })?;
    section(out, "handovers", &stats.handovers, options, |out, handover| {
        let (way, times) = (way(handover.from, handover.to), plural(handover.count, "time"));
        writeln!(out, "  {way:<20}  {:<5}  {times}", handover.verdict.name())
    })?;
    section(out, "events", &stats.counters, options, |out, counter| {
        writeln!(out, "  {}  {}", counter.name.replace('_', " "), counter.count)
    })
}

/// A heading and its lines, or nothing if there are none.
fn section<T>(
    out: &mut String,
    name: &str,
    items: &[T],
    options: TextOptions,
    mut line: impl FnMut(&mut String, &T) -> std::fmt::Result,
) -> std::fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{name}")?;
    items.iter().take(options.max_lines).try_for_each(|item| line(out, item))?;
    if items.len() > options.max_lines {
        writeln!(out, "  ... and {} more", items.len() - options.max_lines)?;
    }
    Ok(())
}

fn write_buffer(out: &mut String, buffer: &BufferReport, options: TextOptions) -> std::fmt::Result {
    write!(out, "  buffer #{}  {}  {}", buffer.id, buffer.device, bytes(buffer.len))?;
    if options.addresses {
        write!(out, "  at {:#x}", buffer.base)?;
    }
    let members: Vec<&HolderReport> = buffer.members().collect();
    writeln!(out)?;
    let shown = || members.iter().take(options.max_lines);
    let width = shown().map(|holder| layout(holder).len()).max().unwrap_or(0).min(32);
    for holder in shown() {
        write_holder(out, holder, width, options)?;
    }
    if members.len() > options.max_lines {
        writeln!(out, "    ... and {} more", members.len() - options.max_lines)?;
    }
    Ok(())
}

/// Element type and shape: `f32[2,3]`.
fn layout(holder: &HolderReport) -> String {
    let shape: Vec<String> = holder.shape.iter().map(i64::to_string).collect();
    format!("{}[{}]", holder.dtype, shape.join(","))
}

fn write_holder(out: &mut String, holder: &HolderReport, width: usize, options: TextOptions) -> std::fmt::Result {
    let role = match holder.role {
        Role::Owner => "owned by",
        Role::Holder => "held by ",
    };
    let mut line = format!("    {role} {:<10}  {:<width$}", or_unknown(holder.framework), layout(holder));
    if let (Some(verdict), Some(from)) = (holder.verdict, holder.from) {
        let verb = match verdict {
            freehold_tensor::Verdict::Share => "shared from",
            freehold_tensor::Verdict::Copy => "copied from",
            freehold_tensor::Verdict::Reject => "refused from",
        };
        write!(line, "  {verb} {}", or_unknown(from))?;
    }
    for code in &holder.reasons {
        write!(line, " {code}")?;
    }
    // "copied from" has said the last one.
    let flags: Vec<&str> = (holder.flags - HolderFlags::COPIED).names().collect();
    if !flags.is_empty() {
        write!(line, "  {}", flags.join(", ").replace('_', "-"))?;
    }
    write!(line, "{}", at(holder.site))?;
    if options.times {
        write!(line, "  +{} thread {}", duration(holder.opened_ns), holder.thread)?;
    }
    writeln!(out, "{}", line.trim_end())
}

/// Whether a holder has something that is to come back.
fn is_lent(holder: &HolderReport) -> bool {
    let flags = holder.flags;
    flags.contains(HolderFlags::FROZEN)
        || flags.contains(HolderFlags::EXPORTED) && !flags.contains(HolderFlags::CONSUMED)
}

/// Whether views of less than a tenth keep a buffer of more than a mebibyte.
fn pins(buffer: &BufferReport) -> bool {
    buffer.allocation_known && buffer.len > 1 << 20 && buffer.pinned_ratio < 0.1
}

/// Copies of one kind.
struct Copies<'a> {
    first: &'a CopyReport,
    count: u64,
    bytes: u64,
}

/// Copies with the same frameworks, steps, reasons and site as one line, the most bytes first.
fn merge_copies(copies: &[CopyReport]) -> Vec<Copies<'_>> {
    let key = |copy: &CopyReport| (copy.from, copy.to, copy.steps.bits(), copy.reasons.clone(), copy.site);
    let mut sorted: Vec<&CopyReport> = copies.iter().collect();
    sorted.sort_by_key(|copy| key(copy));
    let mut merged: Vec<Copies<'_>> = Vec::new();
    for copy in sorted {
        match merged.last_mut() {
            Some(last) if key(last.first) == key(copy) => {
                last.count += 1;
                last.bytes = last.bytes.saturating_add(copy.bytes);
            }
            _ => merged.push(Copies { first: copy, count: 1, bytes: copy.bytes }),
        }
    }
    merged.sort_by_key(|copies| std::cmp::Reverse(copies.bytes));
    merged
}

fn write_copies(out: &mut String, copies: &Copies<'_>) -> std::fmt::Result {
    let CopyReport { from, to, steps, reasons, site, .. } = copies.first;
    write!(out, "  {:>10}  {:<20}", bytes(copies.bytes), way(from, to))?;
    let steps: Vec<&str> = steps.names().collect();
    write!(out, "  {}", steps.join("+"))?;
    for code in reasons {
        write!(out, " {code}")?;
    }
    if copies.count != 1 {
        write!(out, "  in {}", plural(copies.count, "copy"))?;
    }
    writeln!(out, "{}", at(site))
}

fn at(site: &str) -> String {
    if site.is_empty() { String::new() } else { format!("  at {site}") }
}

fn or_unknown(framework: &str) -> &str {
    if framework.is_empty() { "unknown" } else { framework }
}

fn way(from: &str, to: &str) -> String {
    format!("{} -> {}", or_unknown(from), or_unknown(to))
}

fn plural(n: u64, noun: &str) -> String {
    match (n, noun.strip_suffix('y')) {
        (1, _) => format!("{n} {noun}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        (_, None) => format!("{n} {noun}s"),
    }
}

/// Bytes in the unit that leaves one to four digits: `80 B`, `10.0 MiB`.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 10_000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn duration(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        let sizes = [0, 80, 9999, 10_000, 1 << 20, 200_000_000, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "80 B", "9999 B", "9.8 KiB", "1.0 MiB", "190.7 MiB", "16.0 EiB"]);
        let times = [0, 12_345, 12_345_678, 12_345_678_901].map(duration);
        assert_eq!(times, ["0 ns", "12.3 us", "12.3 ms", "12.3 s"]);
    }
}
