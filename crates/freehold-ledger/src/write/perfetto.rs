//! Chrome's trace events, which Perfetto, `chrome://tracing` and PyTorch's profiler read and write.
//!
//! A framework is a process. A holder's life is an asynchronous slice (`b`, `e`) with the holder's id; one that is live
//! has no end. A handover is a flow (`s`, `f`) between two marks of a microsecond, since arrows end at slices only. The
//! live bytes, those that several frameworks share, and the bytes copied so far are counters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};

use serde_json::{Value, json};

use super::place::{how, layout, named};
use super::timeline::{Span, Timeline};
use crate::order;
use crate::report::Snapshot;

/// The process of the counters.
const LEDGER: usize = 1;

pub(super) fn write(snapshot: &Snapshot, w: &mut dyn Write) -> io::Result<()> {
    let timeline = Timeline::of(snapshot);
    let mut trace = Trace { pids: BTreeMap::new(), events: Vec::new(), threads: HashSet::new() };
    for span in &timeline.spans {
        trace.life(&timeline, span);
    }
    for (flow, span) in timeline.spans.iter().filter(|span| span.from.is_some()).enumerate() {
        trace.handover(flow as u64 + 1, span);
    }
    for copy in &snapshot.copies {
        let pid = trace.pid(named(copy.to));
        trace.threads.insert((pid, copy.thread));
        let name = format!("copy {} -> {}", named(copy.from), named(copy.to));
        let args = json!({ "bytes": copy.bytes, "steps": copy.steps.names().collect::<Vec<_>>(),
            "reasons": copy.reasons.iter().map(|code| code.name()).collect::<Vec<_>>(), "site": copy.site });
        trace.push(
            copy.at_ns,
            3,
            json!({ "ph": "i", "s": "t", "cat": "copy", "name": name, "pid": pid,
            "tid": copy.thread, "args": args }),
        );
    }
    for hazard in &snapshot.hazards {
        let recorded = hazard.holders.iter().filter(|holder| !holder.id.is_none());
        let holders: Vec<String> = recorded.map(|holder| holder.id.to_string()).collect();
        let args = json!({ "note": hazard.note, "holders": holders });
        trace.push(
            hazard.at_ns,
            3,
            json!({ "ph": "i", "s": "g", "cat": "hazard", "name": hazard.code.name(),
            "pid": LEDGER, "tid": 0, "args": args }),
        );
    }
    trace.counters(snapshot, &timeline);
    trace.write(w)
}

struct Trace {
    pids: BTreeMap<&'static str, usize>,
    /// When, which of those at one time is first, and the event.
    events: Vec<(u64, u8, Value)>,
    threads: HashSet<(usize, u16)>,
}

impl Trace {
    fn pid(&mut self, framework: &str) -> usize {
        let next = self.pids.len() + LEDGER + 1;
        *self.pids.entry(crate::Label::intern(framework).as_str()).or_insert(next)
    }

    fn push(&mut self, at: u64, rank: u8, event: Value) {
        self.events.push((at, rank, event));
    }

    fn life(&mut self, timeline: &Timeline<'_>, span: &Span<'_>) {
        let pid = self.pid(named(span.framework));
        let layout = layout(span.dtype, span.shape);
        let name = format!("{layout} {}", timeline.name(span.lane));
        let id = span.id.to_string();
        let lane = &timeline.lanes[span.lane];
        let args = json!({ "site": span.site, "from": span.from, "how": how(span.verdict, span.reasons),
            "copied_bytes": span.bytes, "buffer_bytes": lane.len, "device": lane.device.to_string(),
            "base": format!("{:#x}", lane.base), "parent": (!span.parent.is_none()).then(|| span.parent.to_string()) });
        self.threads.insert((pid, span.thread));
        let begin = json!({ "ph": "b", "cat": "holder", "id": id, "name": name, "pid": pid, "tid": span.thread,
            "args": args });
        self.push(span.opened, 1, begin);
        if let Some(closed) = span.closed {
            self.threads.insert((pid, span.closed_by));
            let end = json!({ "ph": "e", "cat": "holder", "id": id, "name": name, "pid": pid, "tid": span.closed_by });
            self.push(closed, 4, end);
        }
    }

    fn handover(&mut self, flow: u64, span: &Span<'_>) {
        let from = self.pid(named(span.from.unwrap_or_default()));
        let to = self.pid(named(span.framework));
        let (how, site) = (how(span.verdict, span.reasons), json!({ "site": span.site }));
        let name = format!("{} -> {}", named(span.from.unwrap_or_default()), named(span.framework));
        self.threads.extend([(from, span.thread), (to, span.thread)]);
        // One after the other also where both are one framework, so that the marks do not lie in each other.
        let give = json!({ "ph": "X", "cat": "handover", "name": format!("give: {how}"), "pid": from,
            "tid": span.thread, "dur": 0.4, "args": site });
        let take = json!({ "ph": "X", "cat": "handover", "name": format!("take: {how}"), "pid": to,
            "tid": span.thread, "dur": 0.4, "args": site });
        let flow = |ph: &str, pid: usize| {
            let mut event =
                json!({ "ph": ph, "cat": "handover", "id": flow, "name": name, "pid": pid, "tid": span.thread });
            if ph == "f" {
                event["bp"] = "e".into();
            }
            event
        };
        let (start, finish) = (flow("s", from), flow("f", to));
        self.push(span.opened, 2, give);
        self.push(span.opened, 3, start);
        self.push(span.opened + 500, 2, take);
        self.push(span.opened + 500, 3, finish);
    }

    fn counters(&mut self, snapshot: &Snapshot, timeline: &Timeline<'_>) {
        #[derive(Clone, Copy)]
        enum Change {
            Come(usize),
            Go(usize),
            Copied(u64),
        }
        let mut changes: Vec<(u64, Change)> = Vec::new();
        for (i, span) in timeline.spans.iter().enumerate() {
            changes.push((span.opened, Change::Come(i)));
            changes.extend(span.closed.map(|at| (at, Change::Go(i))));
        }
        changes.extend(snapshot.copies.iter().map(|copy| (copy.at_ns, Change::Copied(copy.bytes))));
        // At one time a holder comes before it goes.
        order::by_key(&mut changes, |(at, change)| (*at, matches!(change, Change::Go(_))));
        // Holders of each buffer by framework; a buffer that two of them hold is shared.
        let mut held: Vec<HashMap<&str, u32>> = vec![HashMap::new(); timeline.lanes.len()];
        let (mut live, mut shared, mut copied) = (0u64, 0u64, 0u64);
        let mut peekable = changes.into_iter().peekable();
        while let Some((at, change)) = peekable.next() {
            match change {
                Change::Copied(bytes) => copied = copied.saturating_add(bytes),
                Change::Come(i) | Change::Go(i) => {
                    let span = &timeline.spans[i];
                    let (of, len) = (&mut held[span.lane], timeline.lanes[span.lane].len);
                    let before = of.len();
                    match change {
                        Change::Come(_) => *of.entry(span.framework).or_default() += 1,
                        _ => {
                            let count = of.entry(span.framework).or_default();
                            *count = count.saturating_sub(1);
                            if *count == 0 {
                                of.remove(span.framework);
                            }
                        }
                    }
                    let added = |total: u64, was: bool, is: bool| match (was, is) {
                        (false, true) => total.saturating_add(len),
                        (true, false) => total.saturating_sub(len),
                        _ => total,
                    };
                    live = added(live, before > 0, !of.is_empty());
                    shared = added(shared, before > 1, of.len() > 1);
                }
            }
            // One sample for all that changes at one time.
            if peekable.peek().is_none_or(|(next, _)| *next != at) {
                for (name, value) in [("live_bytes", live), ("shared_bytes", shared), ("copied_bytes", copied)] {
                    let event = json!({ "ph": "C", "name": name, "pid": LEDGER, "tid": 0, "args": { "bytes": value } });
                    self.push(at, 5, event);
                }
            }
        }
    }

    fn write(mut self, w: &mut dyn Write) -> io::Result<()> {
        order::by_key(&mut self.events, |(at, rank, _)| (*at, *rank));
        let mut meta = vec![name("process_name", LEDGER, 0, "freehold ledger")];
        meta.extend(self.pids.iter().map(|(framework, pid)| name("process_name", *pid, 0, framework)));
        let mut threads: Vec<_> = self.threads.into_iter().collect();
        order::by_key(&mut threads, |thread| *thread);
        meta.extend(threads.iter().map(|(pid, tid)| name("thread_name", *pid, *tid, &format!("thread {tid}"))));
        w.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
        let timed = self.events.into_iter().map(|(at, _, mut event)| {
            // Microseconds with the nanoseconds behind the point.
            event["ts"] = (at as f64 / 1000.0).into();
            event
        });
        for (i, event) in meta.into_iter().chain(timed).enumerate() {
            w.write_all(if i == 0 { b"" } else { b",\n" })?;
            super::json::write(&event, false, w)?;
        }
        w.write_all(b"\n]}\n")
    }
}

fn name(what: &str, pid: usize, tid: u16, name: &str) -> Value {
    json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name } })
}
