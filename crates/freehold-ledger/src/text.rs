//! The ledger in plain text, to be read in ten seconds.

use std::fmt::Write;

use crate::report::{BufferReport, CopyGroup, FrameworkStats, HolderReport, Lent, LentReport, Snapshot};
use crate::{HolderFlags, Ledger, Role};

/// What [`Snapshot::text`] shows beside the facts that are the same in every run of a program.
///
/// ```
/// use freehold_ledger::{Ledger, Level, TextOptions};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// ledger.open(&ARRAY, None);
/// let stable = ledger.text_report_with(TextOptions::STABLE);
/// assert!(stable.contains("  buffer #1  cpu  12 B\n    owned by numpy       f32[3]\n"));
/// assert!(!stable.contains("0x1000") && ledger.text_report().contains("0x1000"));
/// let short = ledger.text_report_with(TextOptions { max_lines: 0, ..TextOptions::STABLE });
/// assert!(short.contains("... and 1 more"));
/// ```
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
        self.snapshot().text(options)
    }
}

impl Snapshot {
    /// The snapshot in plain text; see [`Ledger::text_report`].
    pub fn text(&self, options: TextOptions) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write(&mut out, self, options);
        out
    }
}

/// From how many bytes on a copy is worth a line that says how to avoid it.
const WORTH_A_LINE: u64 = 1 << 20;

fn write(out: &mut String, snapshot: &Snapshot, options: TextOptions) -> std::fmt::Result {
    let Snapshot { stats, buffers, hazards, findings, .. } = snapshot;
    let live = &stats.live;
    write!(out, "freehold ledger ({}): ", stats.level)?;
    write!(out, "{} live, {}, ", plural(live.buffers, "buffer"), bytes(live.bytes))?;
    write!(out, "{} open of {}", plural(live.holders, "holder"), stats.opened)?;
    if let Some(peak) = findings.peak.as_ref().filter(|peak| peak.bytes > live.bytes) {
        write!(out, "; peak {}", bytes(peak.bytes))?;
    }
    writeln!(out)?;

    section(out, "live", buffers, options, |out, buffer| write_buffer(out, buffer, options))?;

    let lent: Vec<&LentReport> = findings.lent.iter().filter(|lent| is_news(lent)).collect();
    section(out, "still lent", &lent, options, |out, lent| write_lent(out, lent, options))?;

    section(out, "small views of large buffers", &findings.pinned, options, |out, pinned| {
        let (used, len) = (bytes(pinned.used_bytes), bytes(pinned.len));
        write!(out, "  buffer #{}: views of {used} keep {len}  (HT02)", pinned.buffer)?;
        let sites: Vec<&str> =
            pinned.holders.iter().map(|holder| holder.site).filter(|site| !site.is_empty()).collect();
        writeln!(out, "{}", sites.first().map_or_else(String::new, |site| at(site)))?;
        writeln!(out, "    -> {}", pinned.fix)
    })?;

    let count: u64 = stats.copied.iter().map(|copied| copied.count).sum();
    let total = stats.copied.iter().fold(0u64, |sum, copied| sum.saturating_add(copied.bytes));
    let heading = format!("copies: {} in {}", bytes(total), plural(count, "copy"));
    section(out, &heading, &findings.copies, options, write_copies)?;
    section(out, "waits of the host for a device", &findings.waits, options, |out, wait| {
        let (way, times) = (way(wait.from, wait.to), plural(wait.count, "time"));
        writeln!(out, "  {way:<20}  {times}{}", at(wait.site))
    })?;
    section(out, "refused", &stats.refused, options, |out, refused| {
        let (way, times) = (way(refused.from, refused.to), plural(refused.count, "time"));
        writeln!(out, "  {way:<20}  {}  {times}", refused.code)
    })?;
    section(out, "hazards", hazards, options, |out, hazard| {
        write!(out, "  {}  {}", hazard.code, hazard.note)?;
        let named = hazard.holders.iter().filter(|holder| !holder.framework.is_empty());
        let holders: Vec<String> = named.map(|h| format!("{}{}", h.framework, at(h.site))).collect();
        if !holders.is_empty() {
            write!(out, "  (held by {})", holders.join(", "))?;
        }
        writeln!(out)
    })?;
    section(out, "handovers", &stats.handovers, options, |out, handover| {
        let (way, times) = (way(handover.from, handover.to), plural(handover.count, "time"));
        writeln!(out, "  {way:<20}  {:<5}  {times}", handover.verdict.name())
    })?;
    section(out, "frameworks", &findings.frameworks, options, write_framework)?;
    let devices = if live.by_device.len() > 1 { &live.by_device[..] } else { &[] };
    section(out, "devices", devices, options, |out, on| {
        writeln!(out, "  {:<10}  {} in {}", on.device.to_string(), bytes(on.bytes), plural(on.buffers, "buffer"))
    })?;
    section(out, "events", &stats.counters, options, |out, counter| {
        writeln!(out, "  {}  {}", counter.name.replace('_', " "), counter.count)
    })
}

/// Whether a reader should see it among what is still lent: more than one view that is in use.
fn is_news(lent: &LentReport) -> bool {
    lent.state != Lent::Held || lent.since_mark > 1 || lent.count > 2
}

fn write_lent(out: &mut String, lent: &LentReport, options: TextOptions) -> std::fmt::Result {
    let state = match lent.state {
        Lent::Unconsumed => "not known to be consumed",
        Lent::Frozen => "frozen: the owner must not write",
        Lent::Held => "held",
    };
    let what = match (lent.count, lent.buffers) {
        (1, _) => format!("buffer #{}", lent.buffer),
        (views, 1) => format!("buffer #{} in {}", lent.buffer, plural(views, "view")),
        (_, buffers) => format!("{} in {}", bytes(lent.bytes), plural(buffers, "buffer")),
    };
    write!(out, "  {what:<20}  {:<20}  {state}{}", way(lent.from, lent.to), at(lent.site))?;
    if lent.since_mark != 0 {
        write!(out, "  {} since the last mark", lent.since_mark)?;
    }
    if options.times {
        write!(out, "  for {}", duration(lent.oldest_ns))?;
    }
    writeln!(out)?;
    writeln!(out, "    -> {}", lent.fix)
}

fn write_framework(out: &mut String, stats: &FrameworkStats) -> std::fmt::Result {
    let mut parts = Vec::new();
    if stats.owned != 0 {
        parts.push(format!("owns {} in {}", bytes(stats.owned_bytes), plural(stats.owned, "buffer")));
    }
    if stats.borrowed != 0 {
        parts.push(format!("holds {} of others", bytes(stats.borrowed_bytes)));
    }
    if stats.copied_in != 0 {
        parts.push(format!("got {} copied", bytes(stats.copied_in)));
    }
    if stats.copied_out != 0 {
        parts.push(format!("gave {} copied", bytes(stats.copied_out)));
    }
    writeln!(out, "  {:<10}  {}", or_unknown(stats.framework), parts.join(", "))
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

fn write_copies(out: &mut String, copies: &CopyGroup) -> std::fmt::Result {
    let CopyGroup { from, to, steps, reasons, site, .. } = copies;
    write!(out, "  {:>10}  {:<20}", bytes(copies.bytes), way(from, to))?;
    let steps: Vec<&str> = steps.names().collect();
    write!(out, "  {}", steps.join("+"))?;
    for code in reasons {
        write!(out, " {code}")?;
    }
    if copies.count != 1 {
        write!(out, "  in {}", plural(copies.count, "copy"))?;
    }
    writeln!(out, "{}", at(site))?;
    if copies.bytes >= WORTH_A_LINE {
        writeln!(out, "{:>14} {}", "->", copies.fix)?;
    }
    Ok(())
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
pub(crate) fn bytes(n: u64) -> String {
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
