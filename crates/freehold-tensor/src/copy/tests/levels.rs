//! Every instruction set of this machine against the plainest one, and that one against the oracle: all values of up
//! to 16 bits, random and special ones of wider types, every short length, every alignment, every loss alone.

use super::oracle;
use crate::copy::convert::Convert;
use crate::copy::kind::Scalar;
use crate::copy::level::Level;
use crate::copy::{CastKind, CopyOptions, OnLoss, cast_kind};
use crate::{DType, KNOWN_DTYPES};

/// Bytes around a destination that nothing may change.
const GUARD: usize = 64;

fn scalars() -> Vec<(DType, Scalar)> {
    KNOWN_DTYPES.iter().filter_map(|&dtype| Some((dtype, Scalar::of(dtype)?))).collect()
}

fn modes() -> [CopyOptions; 3] {
    [(OnLoss::Allow, false), (OnLoss::Allow, true), (OnLoss::Error, false)].map(|(on_loss, saturate)| CopyOptions {
        on_loss,
        saturate,
        threads: None,
    })
}

fn convert(level: Level, from: DType, to: DType, options: &CopyOptions) -> Convert {
    level
        .force(|| Convert::new(from, to, options.on_loss, options.saturate))
        .expect("all pairs of real dtypes have a route")
}

/// A repeatable stream of bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Values of a type as a block holds them: all of them up to 16 bits, else special and random ones.
fn values(scalar: Scalar) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::new();
    match scalar.size() {
        1 => bytes.extend(0..=u8::MAX),
        2 => (0..=u16::MAX).for_each(|code| bytes.extend(code.to_ne_bytes())),
        size => {
            let mut put = |bits: u64| match size {
                4 => bytes.extend((bits as u32).to_ne_bytes()),
                _ => bytes.extend(bits.to_ne_bytes()),
            };
            match scalar {
                Scalar::F32 => {
                    floats(&mut random, |x| put(u64::from((x as f32).to_bits())));
                    // Every sign and exponent with payloads, ties and their neighbours at each width of a mantissa.
                    for top in 0..512u64 {
                        for keep in 0..23 {
                            let tie = 1u64 << keep;
                            [tie - 1, tie, tie + 1, tie | tie << 1]
                                .into_iter()
                                .for_each(|low| put(top << 23 | low & 0x7f_ffff));
                        }
                    }
                }
                Scalar::F64 => {
                    floats(&mut random, |x| put(x.to_bits()));
                    for top in 0..4096u64 {
                        for keep in [0, 20, 28, 29, 30, 41, 42, 43, 44, 45, 50, 51] {
                            let tie = 1u64 << keep;
                            [tie - 1, tie, tie + 1]
                                .into_iter()
                                .for_each(|low| put(top << 52 | low & 0xf_ffff_ffff_ffff));
                        }
                    }
                }
                _ => {
                    for shift in 0..64 {
                        for near in 0..9u64 {
                            let edge = (1u64 << shift).wrapping_add(near).wrapping_sub(4);
                            [edge, edge.wrapping_neg(), !edge].into_iter().for_each(&mut put);
                        }
                    }
                    // Neighbours of one magnitude: kernels have a way for small values that all lanes must be fit for.
                    for shift in 1..64 {
                        (0..50).for_each(|_| put(random.next() >> shift));
                    }
                    for i in 0..40_000 {
                        let bits = random.next();
                        put(if i % 2 == 0 { bits } else { ((bits as i64) >> (bits % 64)) as u64 });
                    }
                }
            }
        }
    }
    bytes
}

/// Special values, all magnitudes, and whole and half numbers around the limits of the integers.
fn floats(random: &mut Random, mut put: impl FnMut(f64)) {
    [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN, 1e300, -1e300, 1e-320]
        .into_iter()
        .for_each(&mut put);
    for exponent in 0..66 {
        for d in [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5] {
            put(oracle::power(exponent) + d);
            put(-oracle::power(exponent) + d);
        }
    }
    // Neighbours of one magnitude: kernels have a way for small values that all lanes must be fit for.
    for exponent in 0..66 {
        for i in 0..50 {
            let value = (random.next() >> 1) as f64 * oracle::power(exponent - 63);
            put(if i % 25 < 20 { value } else { -value });
            put(value.trunc());
        }
    }
    for _ in 0..20_000 {
        let bits = random.next();
        put(f64::from_bits(bits));
        put((bits as i64 as f64) * oracle::power(-((bits >> 32) as i32 & 127)));
        put(f64::from((bits >> 16) as i16));
    }
}

/// Runs a conversion between exactly placed buffers, and checks that nothing around the destination changed.
fn run(
    convert: &Convert,
    src: &[u8],
    (from, to): (usize, usize),
    n: usize,
    (at, offset): (usize, usize),
) -> (Vec<u8>, usize) {
    let mut source = vec![0xee_u8; offset + n * from];
    source[offset..].copy_from_slice(&src[..n * from]);
    let mut target = vec![0xa5_u8; at + n * to + 2 * GUARD];
    // SAFETY: `n` compact values lie in either vector behind its offset, as the sizes above say.
    let lost = unsafe { convert.run(target.as_mut_ptr().add(GUARD + at), source.as_ptr().add(offset), n) };
    assert!(target[..GUARD + at].iter().chain(&target[GUARD + at + n * to..]).all(|&b| b == 0xa5), "{n} at {at}");
    (target[GUARD + at..][..n * to].to_vec(), lost)
}

fn levels_agree(size: usize) {
    let all = scalars();
    for &(from, a) in all.iter().filter(|(_, a)| a.size() == size) {
        let source = values(a);
        for &(to, b) in all.iter().filter(|(to, _)| *to != from) {
            for options in modes() {
                let plain = convert(Level::Baseline, from, to, &options);
                let sizes = (size, b.size());
                let (_, expected) = run(&plain, &source, sizes, source.len() / size, (0, 0));
                let levels: Vec<_> =
                    Level::available().map(|level| (level, convert(level, from, to, &options))).collect();
                for (level, convert) in &levels {
                    let (_, lost) = run(convert, &source, sizes, source.len() / size, (1, 3));
                    assert_eq!(lost, expected, "{from} -> {to} {level:?} {options:?}");
                }
                // A lost value leaves anything behind: results are compared without those.
                let survives = |value: &&[u8]| expected == 0 || run(&plain, value, sizes, 1, (0, 0)).1 == 0;
                let kept: Vec<u8> = source.chunks(size).filter(survives).flatten().copied().collect();
                let n = kept.len() / size;
                let (expected, _) = run(&plain, &kept, sizes, n, (0, 0));
                for (level, convert) in &levels {
                    let (actual, lost) = run(convert, &kept, sizes, n, (1, 3));
                    assert_eq!(lost, 0);
                    let wrong =
                        (0..n).find(|i| actual[i * b.size()..][..b.size()] != expected[i * b.size()..][..b.size()]);
                    if let Some(i) = wrong {
                        let at = |bytes: &[u8], size: usize| format!("{:02x?}", &bytes[i * size..][..size]);
                        let (actual, expected) = (at(&actual, b.size()), at(&expected, b.size()));
                        panic!(
                            "{from} -> {to} {level:?} {options:?}: {} gives {actual}, not {expected}",
                            at(&kept, size)
                        );
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn levels_agree_on_all_values_of_8_bits() {
    levels_agree(1);
}

#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn levels_agree_on_all_values_of_16_bits() {
    levels_agree(2);
}

#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn levels_agree_on_values_of_32_bits() {
    levels_agree(4);
}

#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn levels_agree_on_values_of_64_bits() {
    levels_agree(8);
}

#[test]
#[cfg_attr(miri, ignore = "65 536 values a pair")]
fn the_plainest_level_agrees_with_the_oracle() {
    for (from, a) in scalars() {
        let source = values(a);
        // Wider sources are sampled: all that is special comes first.
        let n = (source.len() / a.size()).min(1 << 16);
        for (to, b) in scalars() {
            // The oracle tries all codes of a narrow float: every 16th value will do, besides the property tests.
            let step = if matches!(b, Scalar::Mini(_)) && a.size() > 1 { 16 } else { 1 };
            for options in modes().into_iter().filter(|_| from != to) {
                let convert = convert(Level::Baseline, from, to, &options);
                let (actual, lost) = run(&convert, &source, (a.size(), b.size()), n, (0, 0));
                let mut count = 0;
                for i in (0..n).step_by(step) {
                    let bits = oracle::read_bits(&source, (i * a.size() * 8) as i64, from.bits);
                    let (expected, is_lost, _) = oracle::cast(from, to, bits, &options);
                    count += usize::from(is_lost);
                    let result = oracle::read_bits(&actual, (i * b.size() * 8) as i64, (b.size() * 8) as u8);
                    assert!(is_lost || result == expected, "{from} -> {to} {options:?}: {bits:#x} gives {result:#x}");
                }
                assert!(step > 1 || count == lost, "{from} -> {to}: {lost} lost, not {count}");
            }
        }
    }
}

/// Small integers, which every type but the truth values and the narrowest holds.
fn exact_source(from: DType, n: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..n).map(|i| u8::from(i % 3 == 1)).collect();
    let plain = convert(Level::Baseline, DType::BOOL, from, &CopyOptions::new(OnLoss::Allow));
    let size = Scalar::of(from).expect("a real dtype").size();
    if from == DType::BOOL { bytes } else { run(&plain, &bytes, (1, size), n, (0, 0)).0 }
}

#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn every_length_and_alignment_at_every_level() {
    const LENGTH: usize = 200;
    let all = scalars();
    for &(from, a) in &all {
        let (exact, various) = (exact_source(from, LENGTH), values(a));
        // From the middle, where no type has only zeros.
        let skip = various.len() / a.size() / 2 - LENGTH / 2;
        let various = &various[skip * a.size()..];
        for &(to, b) in all.iter().filter(|(to, _)| *to != from) {
            for (options, source) in [(&modes()[0], various), (&modes()[2], &exact[..])] {
                let sizes = (a.size(), b.size());
                let plain = convert(Level::Baseline, from, to, options);
                let expected = run(&plain, source, sizes, LENGTH, (0, 0));
                for level in Level::available() {
                    let convert = convert(level, from, to, options);
                    for n in 0..=LENGTH {
                        let (actual, lost) = run(&convert, source, sizes, n, (n % 67, n % 13));
                        let same = actual[..] == expected.0[..n * b.size()];
                        assert!(lost > 0 || same, "{from} -> {to} {level:?}: {n} values");
                        assert!(lost <= expected.1 && (n < LENGTH || lost == expected.1));
                    }
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn one_loss_is_found_wherever_it_lies() {
    const LENGTH: usize = 150;
    let error = &modes()[2];
    let all = scalars();
    for &(from, a) in &all {
        let various = values(a);
        for &(to, b) in all.iter().filter(|(to, _)| *to != from && *to != DType::BOOL) {
            let (sizes, plain) = ((a.size(), b.size()), convert(Level::Baseline, from, to, error));
            let lossy = various.chunks(a.size()).find(|value| run(&plain, value, sizes, 1, (0, 0)).1 == 1);
            let exact = exact_source(from, LENGTH);
            // The format without a zero loses every false.
            if lossy.is_none() || run(&plain, &exact, sizes, LENGTH, (0, 0)).1 != 0 {
                continue;
            }
            let lossy = lossy.expect("just looked");
            for level in Level::available() {
                let convert = convert(level, from, to, error);
                for at in 0..LENGTH {
                    let mut source = exact.clone();
                    source[at * a.size()..][..a.size()].copy_from_slice(lossy);
                    let (_, lost) = run(&convert, &source, sizes, LENGTH, (at % 64, at % 7));
                    assert_eq!(lost, 1, "{from} -> {to} {level:?}: at {at}");
                }
            }
        }
    }
}

/// What tells a loss from none is not what counts them, so each has to be seen without another beside it.
#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn every_loss_is_found_where_it_is_the_only_one() {
    // More than four steps of the widest kernels.
    const LENGTH: usize = 330;
    let error = &modes()[2];
    let all = scalars();
    for &(from, a) in &all {
        let (size, various, mut source) = (a.size(), values(a), exact_source(from, LENGTH));
        let mut target = vec![0u8; LENGTH * 8];
        for &(to, b) in all.iter().filter(|(to, _)| cast_kind(from, *to) == CastKind::MayLose) {
            let (sizes, plain) = ((size, b.size()), convert(Level::Baseline, from, to, error));
            if run(&plain, &source, sizes, LENGTH, (0, 0)).1 != 0 {
                continue; // the format without a zero
            }
            let levels: Vec<_> = Level::available().map(|level| (level, convert(level, from, to, error))).collect();
            // Of many, those that come first are the special ones; of 16 bits, those whose mantissa ends in zeros.
            let some = |(i, _): &(usize, &[u8])| size == 1 || size > 2 && *i < 4000 || i % 64 == 0 || i % 61 == 0;
            for (i, value) in various.chunks(size).enumerate().filter(some) {
                let at = i % LENGTH * size;
                // SAFETY: one value, and room for another.
                let expected = unsafe { plain.run(target.as_mut_ptr(), value.as_ptr(), 1) };
                let exact: [u8; 8] = std::array::from_fn(|k| if k < size { source[at + k] } else { 0 });
                source[at..at + size].copy_from_slice(value);
                for (level, convert) in &levels {
                    // SAFETY: as many values, and room for as many of 8 bytes.
                    let lost = unsafe { convert.run(target.as_mut_ptr(), source.as_ptr(), LENGTH) };
                    assert_eq!(lost, expected, "{from} -> {to} {level:?}: {value:02x?}");
                }
                source[at..at + size].copy_from_slice(&exact[..size]);
            }
        }
    }
}

/// Random floats of all magnitudes: a sample, or with FREEHOLD_EXHAUSTIVE=1 (`make test-exhaustive`) 10^8 a type.
#[test]
#[cfg_attr(miri, ignore = "one level only")]
fn levels_agree_on_random_floats_in_bulk() {
    const CHUNK: usize = 1 << 16;
    let whole = std::env::var("FREEHOLD_EXHAUSTIVE").is_ok_and(|value| value == "1");
    let chunks = if whole { 100_000_000 / CHUNK + 1 } else { 2 };
    let mut random = Random(0x1234_5678_9abc_def1);
    for (from, size) in [(DType::F32, 4), (DType::F64, 8)] {
        for _ in 0..chunks {
            let mut source = Vec::with_capacity(CHUNK * size);
            for i in 0..CHUNK {
                let bits = random.next();
                match (size, i % 2) {
                    (4, 0) => source.extend((bits as u32).to_ne_bytes()),
                    (4, _) => source.extend((bits as i64 as f32 * 0.5f32.powi((bits & 127) as i32)).to_ne_bytes()),
                    (_, 0) => source.extend(bits.to_ne_bytes()),
                    _ => source.extend((bits as i64 as f64 * oracle::power(-((bits & 127) as i32))).to_ne_bytes()),
                }
            }
            for (to, b) in scalars().into_iter().filter(|(to, _)| *to != from) {
                for options in modes() {
                    let sizes = (size, b.size());
                    let expected = run(&convert(Level::Baseline, from, to, &options), &source, sizes, CHUNK, (0, 0));
                    for level in Level::available().skip(1) {
                        let actual = run(&convert(level, from, to, &options), &source, sizes, CHUNK, (0, 0));
                        assert_eq!(actual.1, expected.1, "{from} -> {to} {level:?} {options:?}");
                        let same = options.on_loss == OnLoss::Error || actual.0 == expected.0;
                        assert!(same, "{from} -> {to} {level:?} {options:?}");
                    }
                }
            }
        }
    }
}
