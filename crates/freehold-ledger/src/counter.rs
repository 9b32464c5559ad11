//! Events that are counted and nothing more.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// An event that is counted.
        ///
        /// ```
        /// use freehold_ledger::{Counter, Ledger, Level};
        ///
        /// let ledger = Ledger::new(Level::Counters);
        /// ledger.count(Counter::PanicsCaught);
        /// ledger.count_by(Counter::DeferredDrops, 3);
        /// assert_eq!((ledger.counted(Counter::PanicsCaught), ledger.counted(Counter::DeferredDrops)), (1, 3));
        /// assert_eq!(Counter::DeferredDrops.name(), "deferred_drops");
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[non_exhaustive]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter.
            pub const ALL: &[Counter] = &[$(Counter::$name),*];

            /// The name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// A capsule was freed that nobody had consumed.
    UnconsumedCapsules = "unconsumed_capsules";
    /// A capsule was offered that had been consumed.
    DoubleConsumed = "double_consumed";
    /// The host waited for a device, for a handover. The ledger counts these itself.
    HostWaits = "host_waits";
    /// A holder was closed that was not open. The ledger counts these itself.
    DoubleClosed = "double_closed";
    /// An owner was left alone because the interpreter was shutting down.
    LeakedAtShutdown = "leaked_at_shutdown";
    /// An owner was put on the queue of those that are dropped later, in a place where they may be.
    DeferredDrops = "deferred_drops";
    /// A deleter ran in a child process for memory of its parent.
    DroppedInChild = "dropped_in_child";
    /// A panic was caught before it crossed into another language.
    PanicsCaught = "panics_caught";
    /// There was no memory, or no place, for a record. The ledger counts these itself.
    RecordsDropped = "records_dropped";
}
