//! Memory of ours that was given back, kept a while under a pattern: whoever writes to it held it too long.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use freehold_device::Buffer;
use freehold_ledger::Party;

use crate::{Code, Owner, Runtime, trace};

/// A byte that is no small number, no text and, repeated, no pointer and no usual float.
const PATTERN: u8 = 0xD9;
/// The most bytes that are kept; the oldest go first.
const LIMIT: usize = 64 << 20;
/// Larger buffers are a sample that is not taken: one would push out all others.
const LARGEST: usize = LIMIT / 4;
/// The most buffers that are kept. Interpreted, filling it would take minutes.
const MOST: usize = if cfg!(miri) { 16 } else { 256 };

struct Kept {
    /// [`Owner::Buffer`].
    owner: Owner,
    what: String,
    /// Who let go last.
    last: Party,
    runtime: Runtime,
}

impl Kept {
    fn buffer(&self) -> Option<&Buffer> {
        if let Owner::Buffer(buffer) = &self.owner { Some(buffer) } else { None }
    }

    fn len(&self) -> usize {
        self.buffer().map_or(0, Buffer::len)
    }
}

static KEPT: Mutex<VecDeque<Kept>> = Mutex::new(VecDeque::new());

/// Keeps a buffer that nobody may touch any more, and looks at those that it pushes out.
pub(super) fn keep(owner: Owner, what: String, last: Party, runtime: Runtime) {
    let Owner::Buffer(buffer) = &owner else { return };
    // Memory of somebody else's resource is missed there: only the pool's is kept.
    if super::in_child()
        || !(1..=LARGEST).contains(&buffer.len())
        || !Arc::ptr_eq(buffer.resource(), freehold_device::host())
    {
        return;
    }
    // SAFETY: host memory of this length that its last holder gave back.
    unsafe { std::ptr::write_bytes(buffer.as_ptr(), PATTERN, buffer.len()) };
    runtime.ledger().before_answers(super::sweep);
    let mut out = Vec::new();
    {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Kept { owner, what, last, runtime });
        let mut bytes: usize = kept.iter().map(Kept::len).sum();
        while bytes > LIMIT || kept.len() > MOST {
            let Some(oldest) = kept.pop_front() else { break };
            bytes -= oldest.len();
            out.push(oldest);
        }
    }
    // Under no lock: whoever listens to hazards is foreign code, and memory is given back.
    out.iter().filter_map(check).for_each(Finding::report);
}

/// Looks at everything that is kept.
pub(super) fn look() {
    if super::in_child() {
        return;
    }
    let found: Vec<Finding> = KEPT.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(check).collect();
    found.into_iter().for_each(Finding::report);
}

/// Something was written to a kept buffer.
struct Finding {
    note: String,
    last: Party,
    runtime: Runtime,
}

impl Finding {
    fn report(self) {
        trace::hazard(&self.runtime, Code::CP03, &[self.last], self.note);
    }
}

/// What was written to a kept buffer since somebody looked.
fn check(kept: &Kept) -> Option<Finding> {
    let Kept { what, last, runtime, .. } = kept;
    let buffer = kept.buffer()?;
    // SAFETY: filled by `keep` and still ours. Whoever writes to it at this moment races with us, which is the defect
    // that is looked for; the bytes are read as they are.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.as_ptr(), buffer.len()) };
    let first = bytes.iter().position(|byte| *byte != PATTERN)?;
    let changed = bytes[first..].iter().filter(|byte| **byte != PATTERN).count();
    bytes.fill(PATTERN);
    let who = match last.framework.as_str() {
        "" => "a holder",
        framework => framework,
    };
    let note = format!(
        "{changed} B written at byte {first} of {what} after {who} had let go of it: its deleter was called too early"
    );
    Some(Finding { note, last: *last, runtime: runtime.clone() })
}
