//! The sizes that cached blocks have. A request is rounded up to one, so that its size says which list it is on.

/// What small sizes are multiples of: the alignment of all host memory.
const UNIT: usize = super::HOST_ALIGNMENT;

/// The largest size that threads keep to themselves.
pub(super) const SMALL_MAX: usize = 64 << 10;

/// How many small sizes there are: four up to 1 KiB, then four a doubling.
pub(super) const SMALL_CLASSES: usize = 28;

/// Where a request belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Index and size of a small block.
    Small(usize, usize),
    /// Size of a block that threads share.
    Large(usize),
}

impl Class {
    /// The class of a request that is not empty; `None` for one whose size cannot be rounded up.
    #[inline]
    pub(super) const fn of(bytes: usize) -> Option<Class> {
        debug_assert!(bytes > 0);
        if bytes <= SMALL_MAX { Some(Self::small(bytes)) } else { Self::large(bytes) }
    }

    #[inline]
    const fn small(bytes: usize) -> Class {
        let units = bytes.div_ceil(UNIT);
        if units <= 4 {
            return Class::Small(units - 1, units * UNIT);
        }
        // 2^k < units <= 2^(k + 1), in quarters of 2^k.
        let k = (units - 1).ilog2();
        let step = 1 << (k - 2);
        let quarter = (units - 1) / step - 4;
        Class::Small(4 + (k as usize - 2) * 4 + quarter, (quarter + 5) * step * UNIT)
    }

    /// Eighths of a power of two: at most an eighth is more than was asked for, and every size is whole pages.
    const fn large(bytes: usize) -> Option<Class> {
        let step = 1usize << ((bytes - 1).ilog2() - 3);
        match bytes.checked_next_multiple_of(step) {
            Some(size) if size <= isize::MAX as usize => Some(Class::Large(size)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_classes_are_few_and_fit() {
        let mut last = (0, 0);
        for bytes in 1..=if cfg!(miri) { 4096 } else { SMALL_MAX } {
            let Some(Class::Small(index, size)) = Class::of(bytes) else { panic!("{bytes} is small") };
            assert!(size >= bytes && size % UNIT == 0 && index < SMALL_CLASSES);
            assert!(size - bytes < UNIT.max(bytes / 4 + 1), "{bytes} became {size}");
            assert!((index, size) == last || (index == last.0 + 1 || last.1 == 0) && size > last.1, "{bytes}");
            last = (index, size);
            assert_eq!(Class::of(size), Some(Class::Small(index, size)), "a size is its own class");
        }
        assert_eq!(Class::of(SMALL_MAX), Some(Class::Small(SMALL_CLASSES - 1, SMALL_MAX)));
    }

    #[test]
    fn large_classes_are_whole_pages_and_fit() {
        let mut bytes = SMALL_MAX + 1;
        while bytes < 1 << 40 {
            let Some(Class::Large(size)) = Class::of(bytes) else { panic!("{bytes} is large") };
            assert!(size >= bytes && size.is_multiple_of(4096) && size - bytes <= bytes / 8, "{bytes} became {size}");
            assert_eq!(Class::of(size), Some(Class::Large(size)));
            bytes += bytes / 7;
        }
        assert_eq!(Class::of(isize::MAX as usize), None);
        assert_eq!(Class::of(usize::MAX), None);
    }
}
