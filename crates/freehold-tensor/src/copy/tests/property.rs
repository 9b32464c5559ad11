//! Random copies against the oracle: dtypes, shapes, strides, offsets, directions, broadcasts, traits.

use proptest::prelude::*;

use super::oracle;
use crate::copy::way::tuning::Tuning;
use crate::copy::{CastKind, CopyError, CopyOptions, Lazy, LossValue, OnLoss, Operand, cast_kind, copy};
use crate::{DType, KNOWN_DTYPES, Layout, StrideUnit};

/// Everything with a name, and elements that can only be moved: wide floats, odd widths, handles, lanes.
pub(super) fn dtypes() -> Vec<DType> {
    let mut all = KNOWN_DTYPES.to_vec();
    all.extend([
        DType::new(DType::CODE_FLOAT, 128),
        DType::new(DType::CODE_FLOAT, 80),
        DType::new(DType::CODE_OPAQUE, 64),
        DType::new(DType::CODE_INT, 24),
        DType::new(DType::CODE_UINT, 12),
        DType::new(DType::CODE_INT, 3),
        DType::F32.with_lanes(3),
        DType::I8.with_lanes(3),
        DType::C64.with_lanes(2),
        DType::C32.with_lanes(2),
        DType::F4_E2M1FN.with_lanes(2),
        DType::I4.with_lanes(3),
        DType::I16.with_lanes(3),
    ]);
    all
}

/// How one side lies in memory, before it is a layout.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    /// Sort keys: the axis with the smallest is the innermost.
    pub order: Vec<u8>,
    /// Extra steps of each axis.
    pub gaps: Vec<i64>,
    pub negative: Vec<bool>,
    pub broadcast: Vec<bool>,
    pub in_bytes: bool,
    pub misaligned: usize,
    pub traits: u8,
}

pub(super) fn placement(broadcasts: bool) -> impl Strategy<Value = Placement> {
    let axis = |strategy: BoxedStrategy<i64>| prop::collection::vec(strategy, 6);
    (
        prop::collection::vec(0..4u8, 6),
        axis(prop_oneof![4 => Just(0i64), 1 => 1..4i64].boxed()),
        prop::collection::vec(prop::bool::weighted(0.2), 6),
        prop::collection::vec(prop::bool::weighted(if broadcasts { 0.1 } else { 0.0 }), 6),
        prop::bool::weighted(0.2),
        0..9usize,
        prop_oneof![3 => Just(0u8), 1 => 0..16u8],
    )
        .prop_map(|(order, gaps, negative, broadcast, in_bytes, misaligned, traits)| Placement {
            order,
            gaps,
            negative,
            broadcast,
            in_bytes,
            misaligned,
            traits,
        })
}

fn shape() -> impl Strategy<Value = Vec<i64>> {
    let small = prop::collection::vec(prop_oneof![1 => Just(0i64), 4 => Just(1i64), 20 => 2..6i64], 0..5);
    let long = (1..5i64, 100..if cfg!(miri) { 140 } else { 1200i64 }).prop_flat_map(|(a, b)| {
        prop_oneof![Just(vec![b]), Just(vec![a, b]), Just(vec![b, a]), Just(vec![a, b / 40 + 1, 30])]
    });
    prop_oneof![3 => small, 1 => long]
}

/// A side with its own memory: a buffer, and where element 0 lies in it.
struct Side {
    bytes: Vec<u8>,
    base: usize,
    dtype: DType,
    strides: Vec<i64>,
    unit: StrideUnit,
    traits: Lazy,
}

impl Side {
    fn new(dtype: DType, shape: &[i64], placement: &Placement) -> Side {
        let traits = Lazy::from_bits_truncate(placement.traits);
        let padded = traits.contains(Lazy::PADDED);
        let unit = if placement.in_bytes { StrideUnit::Bytes } else { StrideUnit::Elements };
        let element = if placement.in_bytes { dtype.padded_size() as i64 } else { 1 };
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.sort_by_key(|&i| placement.order[i]);
        let mut strides = vec![0; shape.len()];
        let mut step = element;
        for i in order {
            if placement.broadcast[i] {
                continue;
            }
            step += placement.gaps[i];
            strides[i] = if placement.negative[i] { -step } else { step };
            step *= shape[i].max(1);
        }
        let extent = Layout::new(shape, &strides).extent(dtype, padded, unit).expect("small");
        let base = (-extent.lo) as usize + placement.misaligned;
        let bytes = vec![0; base + extent.hi as usize + 3];
        Side { bytes, base, dtype, strides, unit, traits }
    }

    fn operand<'a>(&'a self, data: *mut u8, shape: &'a [i64]) -> Operand<'a> {
        let layout = Layout::new(shape, &self.strides);
        Operand { data, dtype: self.dtype, layout, unit: self.unit, traits: self.traits }
    }
}

/// Calls `visit` with every index of a shape, in C order.
fn each_index(shape: &[i64], mut visit: impl FnMut(&[i64])) {
    let total: i64 = shape.iter().product();
    let mut index = vec![0; shape.len()];
    for linear in 0..total {
        let mut rest = linear;
        for (i, &n) in shape.iter().enumerate().rev() {
            index[i] = rest % n;
            rest /= n;
        }
        visit(&index);
    }
}

/// Fills with bits that are often special: zeros, ones, small integers as any type would store them.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut x = seed | 1;
    for chunk in bytes.chunks_mut(4) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let word = match x >> 60 {
            0 => 0,
            1 => u32::MAX,
            2 => 0x7f80_0000,
            3..=5 => (((x >> 32) % 200) as f32 - 100.0).to_bits(),
            6 => (x >> 32) as u32 % 256,
            _ => (x >> 32) as u32,
        };
        chunk.copy_from_slice(&word.to_ne_bytes()[..chunk.len()]);
    }
}

pub(super) fn check(
    from: DType,
    to: DType,
    shape: &[i64],
    source: &Placement,
    target: &Placement,
    options: &CopyOptions,
    seed: u64,
) {
    let mut src = Side::new(from, shape, source);
    let mut dst = Side::new(to, shape, target);
    fill(&mut src.bytes, seed);
    fill(&mut dst.bytes, !seed);
    let before = dst.bytes.clone();
    let mut expected = before.clone();

    let (src_at, dst_at) = (src.base as i64 * 8, dst.base as i64 * 8);
    let source_bytes = src.bytes.clone();
    let src_pointer = src.bytes.as_mut_ptr().wrapping_add(src.base);
    let mut actual = std::mem::take(&mut dst.bytes);
    let dst_pointer = actual.as_mut_ptr().wrapping_add(dst.base);
    let (src_operand, dst_operand) = (src.operand(src_pointer, shape), dst.operand(dst_pointer, shape));

    // SAFETY: both buffers hold their layout's extent, are initialised and apart; a destination's strides nest.
    let result = unsafe { copy(&dst_operand, &src_operand, options) };

    let kind = cast_kind(from, to);
    if kind == CastKind::Unsupported {
        assert_eq!(result, Err(CopyError::Unsupported { from, to }));
    }
    if kind == CastKind::TruthOrReal && options.on_loss == OnLoss::Error {
        assert_eq!(result, Err(CopyError::Forbidden { from, to }));
    }
    if let Err(CopyError::Unsupported { .. } | CopyError::Forbidden { .. }) = result {
        assert_eq!(actual, before, "nothing is touched");
        if kind != CastKind::Unsupported && kind != CastKind::TruthOrReal {
            let sign = Lazy::NEG | Lazy::CONJ;
            assert!(
                (src.traits | dst.traits).intersects(sign),
                "{from} -> {to} with {:?} {:?}",
                src.traits,
                dst.traits
            );
        }
        return;
    }

    let (mut count, mut first, mut signs) = (0, None, true);
    // Bits that both sides read the same way are copied as they are, whatever the dtype.
    let common = if from == to { src.traits & dst.traits & (Lazy::NEG | Lazy::CONJ) } else { Lazy::empty() };
    let padded = src.traits.contains(Lazy::PADDED) && from.is_sub_byte();
    let dst_padded = dst.traits.contains(Lazy::PADDED) && to.is_sub_byte();
    each_index(shape, |index| {
        for lane in 0..from.lanes {
            let bits = oracle::read_bits(&source_bytes, src_at + oracle::bit_of(&src_operand, index, lane), from.bits);
            let at = dst_at + oracle::bit_of(&dst_operand, index, lane);
            let Some(value) = oracle::resolve(from, src.traits - common, bits, false) else {
                signs = false;
                return;
            };
            let (out, lost, shown) =
                if from == to { (value, false, LossValue::Int(0)) } else { oracle::cast(from, to, value, options) };
            if lost {
                count += 1;
                first.get_or_insert((index.to_vec(), shown));
            }
            let Some(out) = oracle::resolve(to, dst.traits - common, out, true) else {
                signs = false;
                return;
            };
            oracle::write_bits(&mut expected, at, to.bits, out);
            if dst_padded && to.lanes == 1 && to.bits < 8 {
                // The rest of a padded byte: zero from a cast or a packed source, the source's own from a padded one.
                let rest = if from == to && padded {
                    oracle::read_bits(&source_bytes, src_at + oracle::bit_of(&src_operand, index, lane), 8) >> to.bits
                } else {
                    0
                };
                let plain = (src.traits | dst.traits) & (Lazy::NEG | Lazy::SWAPPED | Lazy::CONJ) == Lazy::empty();
                let rest =
                    if plain || !padded || from != to { rest } else { oracle::read_bits(&actual, at, 8) >> to.bits };
                oracle::write_bits(&mut expected, at + i64::from(to.bits), 8 - to.bits, rest);
            }
            if cfg!(miri) && (from.is_float() || from.is_complex()) && to != from {
                // Miri chooses the payload of a NaN that arithmetic makes.
                let here = oracle::read_bits(&actual, at, to.bits);
                oracle::write_bits(&mut expected, at, to.bits, here);
            }
        }
    });
    assert!(signs, "{from} -> {to} accepted a sign change that the dtype lacks");
    match result {
        Ok(()) => {
            assert_eq!(count, 0, "{from} -> {to}: losses were not seen");
            if let Some(i) = (0..actual.len()).find(|&i| actual[i] != expected[i]) {
                let (a, e) = (&actual[i..], &expected[i..]);
                let show = |bytes: &[u8]| format!("{:x?}", &bytes[..bytes.len().min(16)]);
                let layouts =
                    format!("{shape:?} {:?} {:?} <- {:?} {:?}", dst.strides, dst.traits, src.strides, src.traits);
                panic!("{from} -> {to} {layouts} {options:?}: byte {i}: {} for {}", show(a), show(e));
            }
        }
        Err(CopyError::Loss(loss)) => {
            let (index, value) = first.expect("the oracle found a loss too");
            assert_eq!(loss.count, count, "{from} -> {to}");
            assert_eq!(&loss.first_index[..], &index[..]);
            assert_eq!(loss.total, shape.iter().product::<i64>() as u64 * u64::from(from.lanes));
            assert_eq!(loss.first_value.to_string(), value.to_string());
            assert_eq!((loss.from, loss.to), (from, to));
        }
        Err(other) => panic!("{from} -> {to}: {other}"),
    }
}

pub(super) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 8 } else { cases },
        failure_persistence: None, // Miri has no working directory
        ..ProptestConfig::default()
    }
}

pub(super) fn options() -> impl Strategy<Value = CopyOptions> {
    (any::<bool>(), any::<bool>()).prop_map(|(allow, saturate)| CopyOptions {
        on_loss: if allow { OnLoss::Allow } else { OnLoss::Error },
        saturate,
        threads: None,
    })
}

proptest! {
    #![proptest_config(config(6000))]

    #[test]
    fn casts_match_the_oracle(
        from in prop::sample::select(dtypes()),
        to in prop::sample::select(dtypes()),
        shape in shape(),
        source in placement(true),
        target in placement(false),
        options in options(),
        seed: u64,
    ) {
        // Lanes differ in most pairs of the extra dtypes: give the target the source's.
        let tuning = Tuning { no_short: seed % 2 == 0, ask_ahead: seed % 3 == 0, ..Tuning::default() };
        tuning.during(|| check(from, to.with_lanes(from.lanes), &shape, &source, &target, &options, seed));
    }

    #[test]
    fn same_dtype_copies_match_the_oracle(
        dtype in prop::sample::select(dtypes()),
        shape in shape(),
        source in placement(true),
        target in placement(false),
        seed: u64,
    ) {
        let tuning = Tuning { no_short: seed % 2 == 0, ask_ahead: seed % 3 == 0, ..Tuning::default() };
        tuning.during(|| check(dtype, dtype, &shape, &source, &target, &CopyOptions::default(), seed));
    }
}

/// C order without gaps.
pub(super) fn compact() -> Placement {
    Placement {
        order: vec![5, 4, 3, 2, 1, 0],
        gaps: vec![0; 6],
        negative: vec![false; 6],
        broadcast: vec![false; 6],
        in_bytes: false,
        misaligned: 1,
        traits: 0,
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow, and the same code as shorter rows")]
fn packed_rows_longer_than_a_block_at_different_bits() {
    // Rows of 20 001 nibbles: the source's second row starts within a byte, the destination's does not.
    let (shape, options) = ([3, 20_001], CopyOptions::default());
    let padded = Placement { gaps: vec![7, 0, 0, 0, 0, 0], ..compact() };
    check(DType::U4, DType::U4, &shape, &compact(), &padded, &options, 5);
    check(DType::U4, DType::U4, &shape, &padded, &compact(), &options, 5);
    check(DType::U4, DType::U4, &shape, &padded, &padded, &options, 5);
}

#[test]
fn every_pair_matches_the_oracle_on_one_run() {
    for (i, &from) in dtypes().iter().enumerate() {
        for (j, &to) in dtypes().iter().enumerate() {
            // Under Miri a ninth of the pairs: every source and every target is among them.
            if cfg!(miri) && (i * 2 + j) % 9 != 0 {
                continue;
            }
            for on_loss in [OnLoss::Error, OnLoss::Allow] {
                for saturate in [false, true] {
                    // And of their ways to convert one each.
                    if cfg!(miri) && (saturate || (on_loss == OnLoss::Error) == (i + j).is_multiple_of(2)) {
                        continue;
                    }
                    let n = if cfg!(miri) { 3 } else { 777 };
                    check(
                        from,
                        to,
                        &[n],
                        &compact(),
                        &compact(),
                        &CopyOptions { on_loss, saturate, threads: None },
                        99,
                    );
                }
            }
        }
    }
}
