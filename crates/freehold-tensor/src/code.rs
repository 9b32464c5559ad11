//! The vocabulary of decisions: verdicts, copy steps and reason codes.
//!
//! Codes are ABI. A number or a name is never reused; the C header, the Python package and the ledger's files
//! carry the same ones.

use std::fmt;

/// What a decision says will happen.
///
/// ```
/// use freehold_tensor::Verdict;
///
/// assert_eq!(Verdict::Share.name(), "share");
/// assert_eq!(Verdict::Reject as u8, 2); // in the C ABI
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// The target sees the source's memory.
    Share = 0,
    /// The target gets new memory, filled in one pass.
    Copy = 1,
    /// Nothing happens; the first reason says why.
    Reject = 2,
}

impl Verdict {
    /// `share`, `copy` or `reject`.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Share => "share",
            Verdict::Copy => "copy",
            Verdict::Reject => "reject",
        }
    }
}

bitflags::bitflags! {
    /// Why a copy is made; several steps run in one fused pass.
    ///
    /// ```
    /// use freehold_tensor::Steps;
    ///
    /// let steps = Steps::LAYOUT | Steps::CAST;
    /// assert_eq!(steps.names().collect::<Vec<_>>(), ["layout", "cast"]);
    /// assert!(!steps.contains(Steps::DEVICE));
    /// ```
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct Steps: u8 {
        /// The caller asked for a copy, or the target must not alias the owner.
        const FRESH = 1;
        /// The elements move to other places (order, strides, alignment).
        const LAYOUT = 2;
        /// The element type changes.
        const CAST = 4;
        /// The bytes move to another device.
        const DEVICE = 8;
        /// Lazy bits are applied: conjugation, negation, byte order.
        const RESOLVE = 16;
    }
}

impl Steps {
    /// The names of the steps, in the order they are listed above.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Steps::FRESH, "fresh"),
            (Steps::LAYOUT, "layout"),
            (Steps::CAST, "cast"),
            (Steps::DEVICE, "device"),
            (Steps::RESOLVE, "resolve"),
        ]
        .into_iter()
        .filter(move |(step, _)| self.contains(*step))
        .map(|(_, name)| name)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $info:literal;)*) => {
        /// A stable reason code.
        ///
        /// ```
        /// use freehold_tensor::Code;
        ///
        /// assert_eq!(Code::from_name("RO01"), Some(Code::RO01));
        /// assert_eq!(Code::from_number(101), Some(Code::RO01));
        /// assert_eq!(Code::ST01.to_string(), "ST01");
        /// assert!(Code::RO02.is_info() && !Code::RO01.is_info()); // made read-only is no refusal
        /// assert!(Code::ALL.contains(&Code::IN01));
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code { $($(#[$doc])* $name = $value,)* }

        impl Code {
            /// Every code, in numeric order.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The name, such as `RO01`.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)* }
            }

            /// Whether the code only informs, and never makes a verdict a reject.
            pub const fn is_info(self) -> bool {
                match self { $(Code::$name => $info,)* }
            }

            /// The code with this number.
            pub const fn from_number(number: u16) -> Option<Code> {
                match number { $($value => Some(Code::$name),)* _ => None }
            }

            /// The code with this name.
            pub fn from_name(name: &str) -> Option<Code> {
                match name { $(stringify!($name) => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The target has no read-only tensors and the source is read-only.
    RO01 = 101, false;
    /// The view is exported read-only because the owner is.
    RO02 = 102, true;
    /// A negative stride that the target does not take.
    ST01 = 201, false;
    /// The target needs compact strides.
    ST02 = 202, false;
    /// A byte stride that is not a multiple of the item size.
    ST03 = 203, false;
    /// Another memory order was requested.
    LY01 = 301, false;
    /// Sparse tensors have no dense buffer.
    LY02 = 302, false;
    /// Meta, fake and functorch tensors have no storage.
    LY03 = 303, false;
    /// More dimensions than the target takes.
    LY04 = 304, false;
    /// The dtype changes, which copies.
    CA01 = 401, true;
    /// Values do not fit the requested dtype.
    CA02 = 402, false;
    /// Elements are Python objects.
    DT01 = 501, false;
    /// The target lacks the dtype.
    DT02 = 502, false;
    /// DLPack has no code for the dtype.
    DT03 = 503, false;
    /// The bytes are in the other byte order.
    BO01 = 601, false;
    /// The address is less aligned than the target needs.
    AG01 = 701, false;
    /// Source and target are on different devices.
    DV01 = 801, false;
    /// The device is not here.
    DV02 = 802, false;
    /// Capsule and pointer disagree about the device.
    DV03 = 803, false;
    /// Streams are not ordered.
    SY01 = 901, false;
    /// The target cannot carry the autograd graph.
    GR01 = 1001, false;
    /// A detached view is read-only.
    GR02 = 1002, true;
    /// Lazy conj or neg bits are set.
    LZ01 = 1101, false;
    /// Null or masked elements.
    NU01 = 1201, false;
    /// A buffer changed while it was lent.
    AL01 = 1301, false;
    /// Elements overlap in memory: made read-only.
    AL02 = 1302, true;
    /// An immutable target over a mutable owner.
    AL03 = 1303, false;
    /// The policy in force forbids it.
    PO01 = 1401, false;
    /// Unknown DLPack major version.
    VE01 = 1501, false;
    /// The capsule was consumed already.
    CP01 = 1601, false;
    /// A field of the capsule breaks a rule of DLPack.
    CP02 = 1602, false;
    /// A capsule was not given back as DLPack says: twice, never, too early, or another pointer.
    CP03 = 1603, false;
    /// The object offers no tensor protocol.
    OB01 = 1701, false;
    /// The target holds no memory but its own.
    OB02 = 1702, false;
    /// The target's default dtype is another one.
    HT01 = 1801, true;
    /// A small view keeps a large buffer alive.
    HT02 = 1802, true;
    /// An argument of the call is not valid.
    AR01 = 1901, false;
    /// Memory could not be allocated.
    ME01 = 2001, false;
    /// A defect of Freehold itself: a panic was caught.
    IN01 = 2101, false;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_a_bijection() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(*code as u16), Some(*code));
            assert_eq!(Code::from_name(code.name()), Some(*code));
        }
        assert!(Code::ALL.windows(2).all(|w| (w[0] as u16) < w[1] as u16));
    }
}
