//! The instruction sets that kernels are compiled for, and which of them this machine has.

use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set, from the one that the target always has to the widest; each includes those before it.
///
/// The features of a level, as `#[target_feature]` takes them, are in the comment of its variant. A level that
/// [`Level::best`] or [`Level::available`] returned is a proof that the machine has them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) enum Level {
    /// What the compiler may use everywhere on the target.
    Baseline,
    /// `avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt`
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `avx512f,avx512bw,avx512vl,avx512dq,avx512cd` and those of [`Level::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// `avx512vbmi,avx512vbmi2` and those of [`Level::Avx512`].
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi,
    /// `neon`, which every aarch64 machine has.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    /// All levels of this architecture, narrowest first.
    const ALL: &[Level] = &[
        Level::Baseline,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vbmi,
        #[cfg(target_arch = "aarch64")]
        Level::Neon,
    ];

    /// The level that kernels are chosen for: the widest of this machine, or the one that the environment variable
    /// `FREEHOLD_SIMD` names, where the machine has it. Detected once.
    #[inline]
    pub(super) fn best() -> Level {
        /// 0 until detected, then one more than the level's place in [`Level::ALL`].
        static BEST: AtomicU8 = AtomicU8::new(0);
        #[cfg(test)]
        if let Some(level) = forced::get() {
            return level;
        }
        // Relaxed: the value depends on nothing else, and two threads that detect it find the same.
        match BEST.load(Ordering::Relaxed).checked_sub(1).and_then(|i| Level::ALL.get(usize::from(i))) {
            Some(&level) => level,
            None => detect(&BEST),
        }
    }

    /// Every level that this machine has, narrowest first.
    pub(super) fn available() -> impl Iterator<Item = Level> {
        Level::ALL.iter().copied().filter(|level| level.is_available())
    }

    /// The level's name in `FREEHOLD_SIMD`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vbmi => "avx512vbmi",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
        }
    }

    /// Whether this is AVX2, which other architectures lack.
    pub(super) const fn is_avx2(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => true,
            _ => false,
        }
    }

    fn is_available(self) -> bool {
        if cfg!(miri) {
            return self == Level::Baseline; // Miri interprets few vector instructions
        }
        match self {
            Level::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("f16c")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("popcnt")
                    && is_x86_feature_detected!("lzcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512cd")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vbmi => {
                Level::Avx512.is_available()
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vbmi2")
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("neon"),
        }
    }

    /// The choice for a value of `FREEHOLD_SIMD`; a name that is unknown, or of a level that the machine lacks, is
    /// as good as none.
    fn choose(wanted: Option<&str>) -> Level {
        let widest = Level::available().last().unwrap_or(Level::Baseline);
        Level::available().find(|level| wanted == Some(level.name())).unwrap_or(widest)
    }
}

#[cold]
fn detect(best: &AtomicU8) -> Level {
    let wanted = if cfg!(miri) { None } else { std::env::var("FREEHOLD_SIMD").ok() };
    let level = Level::choose(wanted.as_deref());
    let place = Level::ALL.iter().position(|&other| other == level).unwrap_or(0);
    best.store(place as u8 + 1, Ordering::Relaxed);
    level
}

/// The name of the instruction set that copies and casts use on this machine: `baseline`, `avx2`, `avx512`,
/// `avx512vbmi` or `neon`. The environment variable `FREEHOLD_SIMD`, read once, chooses a narrower one by its name; a
/// name that is unknown or of an instruction set that the machine lacks changes nothing.
///
/// ```
/// use freehold_tensor::copy::simd_level;
///
/// assert!(["baseline", "avx2", "avx512", "avx512vbmi", "neon"].contains(&simd_level()));
/// ```
pub fn simd_level() -> &'static str {
    Level::best().name()
}

/// Tests choose a level for their own thread.
#[cfg(test)]
mod forced {
    use super::Level;
    use std::cell::Cell;

    thread_local!(static FORCED: Cell<Option<Level>> = const { Cell::new(None) });

    pub(super) fn get() -> Option<Level> {
        FORCED.get()
    }

    impl Level {
        /// Runs `test` with [`Level::best`] being this level on this thread.
        pub(crate) fn force<R>(self, test: impl FnOnce() -> R) -> R {
            struct Restore(Option<Level>);
            impl Drop for Restore {
                fn drop(&mut self) {
                    FORCED.set(self.0);
                }
            }
            assert!(self.is_available(), "{self:?} cannot be forced here");
            let _restore = Restore(FORCED.replace(Some(self)));
            test()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_among_what_the_machine_has() {
        let widest = Level::available().last();
        assert_eq!(Level::available().next(), Some(Level::Baseline));
        assert_eq!(Level::choose(Some("baseline")), Level::Baseline);
        assert_eq!(Some(Level::choose(None)), widest);
        assert_eq!(Some(Level::choose(Some("sse9"))), widest);
        for level in Level::available() {
            assert_eq!(Level::choose(Some(level.name())), level);
            assert_eq!(level.force(Level::best), level);
        }
        assert_eq!(simd_level(), Level::best().name());
    }
}
