//! Reads and writes values of 1 to 7 bits at any bit offset, in the little-endian order that DLPack packs them in:
//! value `i` of a compact tensor of `b`-bit elements starts at bit `i * b`, counting from the low bit of byte 0.

use std::mem::MaybeUninit;

use super::level::Level;

/// Calls a function for a width in bits, compiled for the machine's instruction set.
macro_rules! widths {
    ($f:ident($bits:expr, $dst:expr, $src:expr, $groups:expr)) => {
        match ($bits, Level::best()) {
            #[cfg(target_arch = "x86_64")]
            (bits, Level::Avx2 | Level::Avx512 | Level::Avx512Vbmi) => match bits {
                1 => bmi2::$f::<1>($dst, $src, $groups),
                2 => bmi2::$f::<2>($dst, $src, $groups),
                3 => bmi2::$f::<3>($dst, $src, $groups),
                4 => bmi2::$f::<4>($dst, $src, $groups),
                5 => bmi2::$f::<5>($dst, $src, $groups),
                6 => bmi2::$f::<6>($dst, $src, $groups),
                _ => bmi2::$f::<7>($dst, $src, $groups),
            },
            (1, _) => $f::<1>($dst, $src, $groups),
            (2, _) => $f::<2>($dst, $src, $groups),
            (3, _) => $f::<3>($dst, $src, $groups),
            (4, _) => $f::<4>($dst, $src, $groups),
            (5, _) => $f::<5>($dst, $src, $groups),
            (6, _) => $f::<6>($dst, $src, $groups),
            (_, _) => $f::<7>($dst, $src, $groups),
        }
    };
}

/// Spreads `n` packed values into one byte each, the rest of the byte zero.
///
/// # Safety
///
/// * `src`, with bit offsets counted from it (negative ones below), is readable at every byte the values touch.
/// * `dst` is writable for `n` bytes and does not overlap them.
pub(super) unsafe fn unpack(dst: *mut u8, src: *const u8, mut at: isize, step: isize, bits: u32, n: usize) {
    let mut i = 0;
    if step == bits as isize {
        while i < n && at & 7 != 0 {
            // SAFETY: value `i` of the caller's run.
            unsafe { dst.add(i).write(read(src, at, bits)) };
            i += 1;
            at += step;
        }
        let groups = (n - i) / 8;
        // SAFETY: `at` is on a byte, and groups of eight values fill exactly `bits` bytes each.
        unsafe {
            let (dst, src) = (dst.add(i), src.offset(at >> 3));
            widths!(spread(bits, dst, src, groups));
        }
        i += groups * 8;
        at += (groups * 8) as isize * step;
    }
    while i < n {
        // SAFETY: value `i` of the caller's run.
        unsafe { dst.add(i).write(read(src, at, bits)) };
        i += 1;
        at += step;
    }
}

/// Packs the low bits of `n` bytes; every other bit of the bytes it touches is kept.
///
/// # Safety
///
/// * `dst`, with bit offsets counted from it (negative ones below), is writable at every byte the values touch, and
///   initialised there: neighbours in a shared byte are kept.
/// * `src` is readable for `n` bytes and does not overlap them.
pub(super) unsafe fn pack(dst: *mut u8, mut at: isize, step: isize, src: *const u8, bits: u32, n: usize) {
    let mut i = 0;
    if step == bits as isize {
        while i < n && at & 7 != 0 {
            // SAFETY: value `i` of the caller's run.
            unsafe { write(dst, at, bits, src.add(i).read()) };
            i += 1;
            at += step;
        }
        let groups = (n - i) / 8;
        // SAFETY: `at` is on a byte, and groups of eight values fill exactly `bits` bytes each.
        unsafe {
            let (dst, src) = (dst.offset(at >> 3), src.add(i));
            widths!(gather(bits, dst, src, groups));
        }
        i += groups * 8;
        at += (groups * 8) as isize * step;
    }
    while i < n {
        // SAFETY: value `i` of the caller's run.
        unsafe { write(dst, at, bits, src.add(i).read()) };
        i += 1;
        at += step;
    }
}

/// # Safety
///
/// `src` is readable for `groups * BITS` bytes, `dst` writable for `groups * 8`, without overlap.
unsafe fn spread<const BITS: usize>(dst: *mut u8, src: *const u8, groups: usize) {
    // SAFETY: the caller's guarantee; byte arrays have alignment 1.
    let (dst, src) = unsafe {
        (
            std::slice::from_raw_parts_mut(dst.cast::<MaybeUninit<[u8; 8]>>(), groups),
            std::slice::from_raw_parts(src.cast::<[u8; BITS]>(), groups),
        )
    };
    for (out, group) in dst.iter_mut().zip(src) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(group);
        let word = u64::from_le_bytes(word);
        out.write(std::array::from_fn(|k| (word >> (k * BITS)) as u8 & mask(BITS as u32)));
    }
}

/// # Safety
///
/// `src` is readable for `groups * 8` bytes, `dst` writable for `groups * BITS`, without overlap.
unsafe fn gather<const BITS: usize>(dst: *mut u8, src: *const u8, groups: usize) {
    // SAFETY: the caller's guarantee; byte arrays have alignment 1.
    let (dst, src) = unsafe {
        (
            std::slice::from_raw_parts_mut(dst.cast::<MaybeUninit<[u8; BITS]>>(), groups),
            std::slice::from_raw_parts(src.cast::<[u8; 8]>(), groups),
        )
    };
    for (out, group) in dst.iter_mut().zip(src) {
        let word = (0..8).fold(0u64, |word, k| word | u64::from(group[k] & mask(BITS as u32)) << (k * BITS));
        out.write(std::array::from_fn(|k| (word >> (k * 8)) as u8));
    }
}

/// The same with the bit deposit and extract instructions, which move a group at once.
#[cfg(target_arch = "x86_64")]
mod bmi2 {
    use super::mask;
    use std::arch::x86_64::{_pdep_u64, _pext_u64};

    /// The low bits of eight bytes.
    const fn low<const BITS: usize>() -> u64 {
        0x0101_0101_0101_0101 * mask(BITS as u32) as u64
    }

    /// # Safety
    ///
    /// As for [`super::spread`], on a machine that has BMI2.
    #[target_feature(enable = "bmi2")]
    pub unsafe fn spread<const BITS: usize>(dst: *mut u8, src: *const u8, groups: usize) {
        let out = dst.cast::<u64>();
        // A group is read as eight bytes as long as so many are there.
        let whole = (groups * BITS).saturating_sub(7).div_ceil(BITS);
        for i in 0..whole {
            // SAFETY: `i * BITS + 8 <= groups * BITS` bytes of the source and group `i` of the destination, unaligned.
            unsafe {
                let word = u64::from_le(src.add(i * BITS).cast::<u64>().read_unaligned());
                out.add(i).write_unaligned(_pdep_u64(word, low::<BITS>()).to_le());
            }
        }
        for i in whole..groups {
            // SAFETY: group `i` of both sides, unaligned.
            unsafe {
                let mut word = [0; 8];
                word[..BITS].copy_from_slice(&src.add(i * BITS).cast::<[u8; BITS]>().read());
                out.add(i).write_unaligned(_pdep_u64(u64::from_le_bytes(word), low::<BITS>()).to_le());
            }
        }
    }

    /// # Safety
    ///
    /// As for [`super::gather`], on a machine that has BMI2.
    #[target_feature(enable = "bmi2")]
    pub unsafe fn gather<const BITS: usize>(dst: *mut u8, src: *const u8, groups: usize) {
        for i in 0..groups {
            // SAFETY: group `i` of both sides, unaligned.
            unsafe {
                let values = u64::from_le(src.cast::<u64>().add(i).read_unaligned());
                let word = _pext_u64(values, low::<BITS>()).to_le_bytes();
                let mut group = [0; BITS];
                group.copy_from_slice(&word[..BITS]);
                dst.cast::<[u8; BITS]>().add(i).write(group);
            }
        }
    }
}

const fn mask(bits: u32) -> u8 {
    ((1u16 << bits) - 1) as u8
}

/// # Safety
///
/// The one or two bytes that the value touches are readable.
unsafe fn read(base: *const u8, at: isize, bits: u32) -> u8 {
    let (byte, shift) = (at >> 3, (at & 7) as u32);
    // SAFETY: the first byte is always touched, the second only where the value runs into it.
    let word = unsafe {
        let low = u16::from(base.offset(byte).read());
        if shift + bits > 8 { low | u16::from(base.offset(byte + 1).read()) << 8 } else { low }
    };
    (word >> shift) as u8 & mask(bits)
}

/// # Safety
///
/// The one or two bytes that the value touches are readable and writable.
unsafe fn write(base: *mut u8, at: isize, bits: u32, value: u8) {
    let (byte, shift) = (at >> 3, (at & 7) as u32);
    let keep = !(u16::from(mask(bits)) << shift);
    let value = u16::from(value & mask(bits)) << shift;
    // SAFETY: the first byte is always touched, the second only where the value runs into it.
    unsafe {
        let low = base.offset(byte);
        low.write(low.read() & keep as u8 | value as u8);
        if shift + bits > 8 {
            let high = base.offset(byte + 1);
            high.write(high.read() & (keep >> 8) as u8 | (value >> 8) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_neighbours_at_every_width_offset_and_step() {
        Level::available().for_each(|level| level.force(neighbours));
    }

    fn neighbours() {
        for bits in 1..8u32 {
            // Under Miri a third of the offsets.
            for start in (0..9isize).step_by(if cfg!(miri) { 3 } else { 1 }) {
                for gap in [0, 1, 3] {
                    let step = bits as isize + gap;
                    let values: Vec<u8> = (0..37u8).map(|i| i.wrapping_mul(59) & mask(bits)).collect();
                    let mut bytes = vec![0xa5u8; 64];
                    let before = bytes.clone();
                    // SAFETY: 37 values of at most 7 + 3 bits from bit 8 on end before bit 400 of 512.
                    unsafe { pack(bytes.as_mut_ptr(), start, step, values.as_ptr(), bits, values.len()) };
                    // The oracle works on single bits.
                    let bit = |b: &[u8], i: usize| b[i / 8] >> (i % 8) & 1;
                    for i in 0..512usize {
                        let from_start = i as isize - start;
                        let (k, r) = (from_start.div_euclid(step), from_start.rem_euclid(step));
                        let expected = if (0..37).contains(&k) && r < bits as isize {
                            values[k as usize] >> r & 1
                        } else {
                            bit(&before, i)
                        };
                        assert_eq!(bit(&bytes, i), expected, "{bits} bits at {start} step {step}: bit {i}");
                    }
                    let mut back = vec![0xffu8; 37];
                    // SAFETY: the same bits, read.
                    unsafe { unpack(back.as_mut_ptr(), bytes.as_ptr(), start, step, bits, 37) };
                    assert_eq!(back, values);
                    // Backwards from the last value.
                    // SAFETY: as above, from the other end.
                    unsafe { unpack(back.as_mut_ptr(), bytes.as_ptr(), start + 36 * step, -step, bits, 37) };
                    assert!(back.iter().eq(values.iter().rev()));
                }
            }
        }
    }
}
