//! Pairs of live holders of which one can write what the other relies on.

use freehold_tensor::{Code, overlap};
use serde::Serialize;

use crate::index::Group;
use crate::record::Record;
use crate::report::HolderReport;
use crate::{HolderFlags, HolderId, Ledger, Role};

/// The most holders of one buffer that are compared with each other.
const COMPARED: usize = 256;

/// Two holders that can get in each other's way. It becomes a defect when one of them writes.
///
/// ```
/// use freehold_ledger::{HolderDesc, HolderFlags, Label, Ledger, Level, Role};
/// use freehold_tensor::Code;
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let view = HolderDesc { role: Role::Holder, framework: Label::JAX, flags: HolderFlags::IMMUTABLE, ..ARRAY };
/// let view = ledger.open(&view, None);
/// let conflicts = ledger.conflicts();
/// assert_eq!((conflicts.len(), conflicts[0].code), (1, Code::AL03));
/// assert_eq!((conflicts[0].writer.id, conflicts[0].other.id), (array, view));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conflict {
    /// `AL01`: both can write, or one was promised that nobody does. `AL03`: one takes the memory for immutable. `GR02`: one
    /// was cut from an autograd graph, which may still need the values. `RO01`: its owner lent it
    /// read-only to the framework that now says that it can be written.
    #[serde(serialize_with = "name")]
    pub code: Code,
    /// Who can write.
    pub writer: HolderReport,
    /// Who relies on the values, or can write too.
    pub other: HolderReport,
}

fn name<S: serde::Serializer>(code: &Code, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(code.name())
}

fn can_write(record: &Record) -> bool {
    !record.flags.intersects(HolderFlags::READ_ONLY | HolderFlags::IMMUTABLE)
}

/// What is wrong if somebody writes.
fn wrong(other: &Record) -> Option<Code> {
    if other.flags.contains(HolderFlags::IMMUTABLE) {
        Some(Code::AL03)
    } else if other.flags.contains(HolderFlags::DETACHED) {
        Some(Code::GR02)
    } else if other.flags.contains(HolderFlags::FROZEN) || can_write(other) {
        Some(Code::AL01)
    } else {
        None
    }
}

/// Whether a framework gave memory back as writable that it had been lent read-only by its owner.
fn lost_read_only(writer: &Record, owner: &Record, all: &[Record]) -> bool {
    let lent = |record: &Record| {
        record.role == Role::Holder
            && record.framework == writer.framework
            && record.flags.contains(HolderFlags::READ_ONLY)
    };
    owner.role == Role::Owner
        && owner.framework != writer.framework
        && writer.role == Role::Owner
        && writer.source.is_none()
        && all.iter().any(lent)
}

impl Ledger {
    /// Every pair of live holders, by buffer, of which one can write bytes that the other can write too or was promised
    /// would not change: by exact overlap, strides included. That an
    /// owner and who borrowed from it can both write is what sharing is for, and is left out.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let index = self.index();
        self.conflicts_in(index.groups.iter())
    }

    /// As [`Ledger::conflicts`], in the buffer of one holder.
    pub fn conflicts_of(&self, id: HolderId) -> Vec<Conflict> {
        let index = self.index();
        self.conflicts_in(index.group_of(id).into_iter())
    }

    fn conflicts_in<'a>(&self, groups: impl Iterator<Item = &'a Group>) -> Vec<Conflict> {
        let mut found = Vec::new();
        for group in groups {
            let members = group.members().iter().take(COMPARED);
            let records: Vec<Record> = members.filter_map(|id| self.record(*id)).collect();
            for (i, writer) in records.iter().enumerate().filter(|(_, writer)| can_write(writer)) {
                for (j, other) in records.iter().enumerate() {
                    let lost = || lost_read_only(writer, other, &records).then_some(Code::RO01);
                    let Some(code) = wrong(other).or_else(lost).filter(|_| i != j) else { continue };
                    let both = can_write(other) && code == Code::AL01 && !other.flags.contains(HolderFlags::FROZEN);
                    // A pair of writers once.
                    if both && (j < i || related(writer, other)) {
                        continue;
                    }
                    let share = match (writer.strided(), other.strided()) {
                        (Some(a), Some(b)) => overlap(&a, &b).may(),
                        _ => false,
                    };
                    if share {
                        let (writer, other) = (self.report(group.id, writer), self.report(group.id, other));
                        found.push(Conflict { code, writer, other });
                    }
                }
            }
        }
        found
    }
}

fn related(a: &Record, b: &Record) -> bool {
    let from = |x: &Record, y: &Record| x.source.as_ref().is_some_and(|source| source.from == y.id);
    a.framework == b.framework || from(a, b) || from(b, a) || a.role == Role::Owner || b.role == Role::Owner
}
