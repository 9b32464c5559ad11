//! How much the ledger keeps.

use std::fmt;

/// How much the ledger keeps; it can be changed at run time.
///
/// ```
/// use freehold_ledger::Level;
///
/// assert!(Level::Records < Level::Sites && Level::HIGHEST == Level::Canaries);
/// assert_eq!((Level::from_name("sites"), Level::from_number(0)), (Some(Level::Sites), Some(Level::Off)));
/// assert_eq!((Level::Records.to_string().as_str(), Level::from_number(5)), ("records", None));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Off = 0,
    /// Totals only: handovers, copied bytes, refusals, hazards.
    Counters = 1,
    /// A record of every live holder. The default.
    Records = 2,
    /// Records with call sites: the faces say which line of code made each handover.
    Sites = 3,
    /// Sites, and a watch over memory that is lent read-only or frozen, over deleters, and over freed memory. For
    /// looking for a bug: what is watched is read when it goes and again when it comes back.
    Canaries = 4,
}

impl Level {
    /// The highest level.
    pub const HIGHEST: Level = Level::Canaries;

    /// `off`, `counters`, `records`, `sites` or `canaries`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Counters => "counters",
            Level::Records => "records",
            Level::Sites => "sites",
            Level::Canaries => "canaries",
        }
    }

    /// The level with this number.
    pub const fn from_number(number: u8) -> Option<Level> {
        match number {
            0 => Some(Level::Off),
            1 => Some(Level::Counters),
            2 => Some(Level::Records),
            3 => Some(Level::Sites),
            4 => Some(Level::Canaries),
            _ => None,
        }
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<Level> {
        (0..=4).filter_map(Level::from_number).find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for level in (0..=4).filter_map(Level::from_number) {
            assert_eq!(Level::from_name(level.name()), Some(level));
            assert_eq!(Level::from_number(level as u8), Some(level));
        }
        assert_eq!(Level::from_number(5), None);
    }
}
