//! One JSON object a line: what `jq`, DuckDB and a log pipeline read without loading the whole.
//!
//! Each line has a `type`; the rest of it is the object of that name in `docs/ledger-schema.json`.

use std::io::{self, Write};

use serde::Serialize;

use super::json;
use crate::report::Snapshot;

/// What the lines are about.
#[derive(Serialize)]
struct Head {
    schema: &'static str,
    version: &'static str,
    pid: u32,
    taken_unix_ms: u64,
    taken_ns: u64,
    mark: u32,
}

pub(super) fn write(snapshot: &Snapshot, w: &mut dyn Write) -> io::Result<()> {
    let Snapshot { schema, version, pid, taken_unix_ms, taken_ns, mark, .. } = *snapshot;
    line(w, "snapshot", &Head { schema, version, pid, taken_unix_ms, taken_ns, mark })?;
    line(w, "stats", &snapshot.stats)?;
    lines(w, "buffer", &snapshot.buffers)?;
    lines(w, "copy", &snapshot.copies)?;
    lines(w, "hazard", &snapshot.hazards)?;
    let findings = &snapshot.findings;
    lines(w, "copies", &findings.copies)?;
    lines(w, "waits", &findings.waits)?;
    lines(w, "pinned", &findings.pinned)?;
    lines(w, "lent", &findings.lent)?;
    lines(w, "framework", &findings.frameworks)?;
    lines(w, "peak", findings.peak.as_slice())?;
    lines(w, "lane", &snapshot.history.lanes)?;
    lines(w, "closed", &snapshot.history.closed)
}

fn lines<T: Serialize>(w: &mut dyn Write, r#type: &'static str, items: &[T]) -> io::Result<()> {
    items.iter().try_for_each(|body| line(w, r#type, body))
}

fn line<T: Serialize>(w: &mut dyn Write, r#type: &'static str, body: &T) -> io::Result<()> {
    // The object with one more member in front: none of them is empty.
    let mut object = Vec::new();
    json::write(body, false, &mut object)?;
    write!(w, "{{\"type\":\"{}\",", r#type)?;
    w.write_all(&object[1..])?;
    w.write_all(b"\n")
}
