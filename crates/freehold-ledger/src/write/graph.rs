//! Who owns and holds what, as a graph: DOT for Graphviz, Mermaid for Markdown.
//!
//! A buffer is a box, a holder a pill; an arrow leads from a holder to the one that was made from it, with the verdict
//! and the reasons. What is beyond the largest buffers is counted, since nobody reads a graph of a thousand boxes.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::io::{self, Write};

use super::place::{how, layout, named};
use crate::report::{BufferReport, HolderReport, Snapshot};
use crate::text::bytes;
use crate::{HolderId, Role, order};

/// The most buffers that are drawn, and the most holders of each.
const BUFFERS: usize = 100;
const HOLDERS: usize = 50;

/// What is drawn.
struct Picture<'a> {
    buffers: Vec<&'a BufferReport>,
    /// Buffers that are not drawn.
    more: usize,
    holders: HashSet<HolderId>,
}

impl<'a> Picture<'a> {
    fn of(snapshot: &'a Snapshot) -> Picture<'a> {
        let mut buffers: Vec<&BufferReport> = snapshot.buffers.iter().collect();
        let more = buffers.len().saturating_sub(BUFFERS);
        if more != 0 {
            order::by_key(&mut buffers, |buffer| Reverse(buffer.len));
            buffers.truncate(BUFFERS);
            order::by_key(&mut buffers, |buffer| buffer.id);
        }
        let holders = buffers.iter().flat_map(|buffer| members(buffer)).map(|holder| holder.id).collect();
        Picture { buffers, more, holders }
    }

    /// The arrow that leads to a holder, if both ends are drawn.
    fn source(&self, holder: &HolderReport) -> Option<(HolderId, String)> {
        let drawn = self.holders.contains(&holder.parent);
        drawn.then(|| (holder.parent, how(holder.verdict, &holder.reasons)))
    }
}

fn members(buffer: &BufferReport) -> impl Iterator<Item = &HolderReport> {
    buffer.members().take(HOLDERS)
}

/// The lines of a buffer's box.
fn about(buffer: &BufferReport) -> Vec<String> {
    let mut lines = vec![format!("buffer #{}", buffer.id), format!("{} {}", buffer.device, bytes(buffer.len))];
    let more = buffer.members().count().saturating_sub(HOLDERS);
    if more != 0 {
        lines.push(format!("and {more} more holders"));
    }
    lines
}

/// The lines of a holder's pill.
fn who(holder: &HolderReport) -> Vec<String> {
    let mut lines = vec![format!("{} {}", named(holder.framework), layout(holder.dtype, &holder.shape))];
    let flags: Vec<String> = holder.flags.names().map(|name| name.replace('_', "-")).collect();
    if !flags.is_empty() {
        lines.push(flags.join(", "));
    }
    if !holder.site.is_empty() {
        lines.push(holder.site.to_owned());
    }
    lines
}

pub(super) fn write_dot(snapshot: &Snapshot, w: &mut dyn Write) -> io::Result<()> {
    let picture = Picture::of(snapshot);
    writeln!(w, "digraph freehold {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\", fontsize=11];")?;
    writeln!(w, "  edge [fontname=\"sans-serif\", fontsize=10];")?;
    for buffer in &picture.buffers {
        writeln!(
            w,
            "  b{} [shape=box, style=filled, fillcolor=\"#eeeeee\", label={}];",
            buffer.id,
            dot(&about(buffer))
        )?;
        for holder in members(buffer) {
            let (shape, ends) = match holder.role {
                Role::Owner => ("style=\"rounded,bold\"", "owns"),
                Role::Holder => ("style=rounded", "holds"),
            };
            writeln!(w, "  h{} [shape=box, {shape}, label={}];", holder.id, dot(&who(holder)))?;
            writeln!(w, "  h{} -> b{} [style=dashed, arrowhead=none, label=\"{ends}\"];", holder.id, buffer.id)?;
        }
    }
    for holder in picture.buffers.iter().flat_map(|buffer| members(buffer)) {
        if let Some((from, label)) = picture.source(holder) {
            writeln!(w, "  h{from} -> h{} [label={}];", holder.id, dot(&[label]))?;
        }
    }
    if picture.more != 0 {
        writeln!(w, "  more [shape=plaintext, label=\"and {} more buffers\"];", picture.more)?;
    }
    writeln!(w, "}}")
}

/// Lines as a DOT string.
fn dot(lines: &[String]) -> String {
    // Graphviz reads entities in strings, and control characters end up in its SVG, where they are not allowed.
    let escaped = |line: &String| {
        let line = line.replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"");
        line.replace(char::is_control, " ")
    };
    format!("\"{}\"", lines.iter().map(escaped).collect::<Vec<_>>().join("\\n"))
}

pub(super) fn write_mermaid(snapshot: &Snapshot, w: &mut dyn Write) -> io::Result<()> {
    let picture = Picture::of(snapshot);
    writeln!(w, "flowchart LR")?;
    for buffer in &picture.buffers {
        writeln!(w, "  b{}[{}]", buffer.id, mermaid(&about(buffer)))?;
        for holder in members(buffer) {
            writeln!(w, "  h{}([{}])", holder.id, mermaid(&who(holder)))?;
            let line = if holder.role == Role::Owner { "===" } else { "-.-" };
            writeln!(w, "  h{} {line} b{}", holder.id, buffer.id)?;
        }
    }
    for holder in picture.buffers.iter().flat_map(|buffer| members(buffer)) {
        if let Some((from, label)) = picture.source(holder) {
            writeln!(w, "  h{from} -->|{}| h{}", mermaid(&[label]), holder.id)?;
        }
    }
    if picture.more != 0 {
        writeln!(w, "  more[\"and {} more buffers\"]", picture.more)?;
    }
    Ok(())
}

/// Lines as a Mermaid string: everything that Mermaid or HTML could read as markup is an entity.
fn mermaid(lines: &[String]) -> String {
    let escaped = |line: &String| {
        let mut out = String::new();
        for c in line.chars() {
            match c {
                '"' | '#' | '<' | '>' | '&' | '`' | ';' | '\\' | '*' | '_' | '~' | '|' => {
                    out.push_str(&format!("#{};", c as u32));
                }
                c if c.is_control() => out.push(' '),
                c => out.push(c),
            }
        }
        out
    };
    format!("\"{}\"", lines.iter().map(escaped).collect::<Vec<_>>().join("<br/>"))
}
