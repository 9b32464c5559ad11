//! Totals for Prometheus and what reads its text format, by OpenMetrics 1.0.
//!
//! Labels are frameworks, devices, verdicts and codes: few, whatever a program does. How long a handover takes is not
//! measured, so there is no histogram of it.

use std::fmt::Display;
use std::io::{self, Write};

use crate::report::{Snapshot, Stats};

pub(super) fn write(snapshot: &Snapshot, w: &mut dyn Write) -> io::Result<()> {
    let Stats { live, handovers, copied, refused, hazards, counters, .. } = &snapshot.stats;
    let mut out = Out { w };
    out.family("fh_holders_opened", "counter", "", "Holders that came to be.")?;
    out.sample("fh_holders_opened_total", &[], snapshot.stats.opened)?;
    out.family("fh_holders_closed", "counter", "", "Holders that let go.")?;
    out.sample("fh_holders_closed_total", &[], snapshot.stats.closed)?;
    out.family("fh_handovers", "counter", "", "Handovers by frameworks and verdict.")?;
    for h in handovers {
        out.sample("fh_handovers_total", &[("from", h.from), ("to", h.to), ("verdict", h.verdict.name())], h.count)?;
    }
    out.family("fh_copies", "counter", "", "Copies by their first reason.")?;
    for c in copied {
        out.sample("fh_copies_total", &[("reason", c.code.map_or("asked", |code| code.name()))], c.count)?;
    }
    out.family("fh_copied_bytes", "counter", "bytes", "Bytes copied, by the first reason.")?;
    for c in copied {
        out.sample("fh_copied_bytes_total", &[("reason", c.code.map_or("asked", |code| code.name()))], c.bytes)?;
    }
    out.family("fh_refused", "counter", "", "Handovers refused.")?;
    for r in refused {
        out.sample("fh_refused_total", &[("from", r.from), ("to", r.to), ("code", r.code.name())], r.count)?;
    }
    out.family("fh_hazards", "counter", "", "Hazards by code.")?;
    for h in hazards {
        out.sample("fh_hazards_total", &[("code", h.code.name())], h.count)?;
    }
    let unconsumed = counters.iter().find(|counter| counter.name == "unconsumed_capsules").map_or(0, |c| c.count);
    out.family("fh_unconsumed_capsules", "counter", "", "Capsules that were freed and nobody had consumed.")?;
    out.sample("fh_unconsumed_capsules_total", &[], unconsumed)?;
    out.family("fh_events", "counter", "", "Other events.")?;
    for c in counters.iter().filter(|counter| counter.name != "unconsumed_capsules") {
        out.sample("fh_events_total", &[("event", c.name)], c.count)?;
    }

    let devices: Vec<(String, [u64; 3])> =
        live.by_device.iter().map(|d| (d.device.to_string(), [d.holders, d.buffers, d.bytes])).collect();
    let gauges = [
        ("fh_live_holders", "", "Open records."),
        ("fh_live_buffers", "", "Buffers that somebody holds."),
        ("fh_live_bytes", "bytes", "Bytes of those buffers."),
    ];
    for (i, (name, unit, help)) in gauges.into_iter().enumerate() {
        out.family(name, "gauge", unit, help)?;
        for (device, values) in &devices {
            out.sample(name, &[("device", device)], values[i])?;
        }
    }
    out.family("fh_framework_owned_bytes", "gauge", "bytes", "Bytes of the live buffers that a framework owns.")?;
    for f in &snapshot.findings.frameworks {
        out.sample("fh_framework_owned_bytes", &[("framework", f.framework)], f.owned_bytes)?;
    }
    out.family("fh_pinned_bytes", "gauge", "bytes", "Bytes that only small views of large buffers keep.")?;
    out.sample("fh_pinned_bytes", &[], snapshot.findings.pinned.iter().map(|p| p.frees).fold(0, u64::saturating_add))?;
    if let Some(peak) = &snapshot.findings.peak {
        out.family("fh_peak_bytes", "gauge", "bytes", "The most bytes that are known to have been live at once.")?;
        out.sample("fh_peak_bytes", &[], peak.bytes)?;
    }
    out.w.write_all(b"# EOF\n")
}

struct Out<'a> {
    w: &'a mut dyn Write,
}

impl Out<'_> {
    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) -> io::Result<()> {
        writeln!(self.w, "# TYPE {name} {kind}")?;
        if !unit.is_empty() {
            writeln!(self.w, "# UNIT {name} {unit}")?;
        }
        writeln!(self.w, "# HELP {name} {help}")
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) -> io::Result<()> {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
        match labels.is_empty() {
            true => writeln!(self.w, "{name} {value}"),
            false => writeln!(self.w, "{name}{{{}}} {value}", labels.join(",")),
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
