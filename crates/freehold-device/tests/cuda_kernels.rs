//! The device's kernels themselves, compiled for the processor (see kernels/host.cpp) and launched as the planner says: every
//! pair of dtypes and layouts of many kinds, bit for bit what the processor's engine makes of them. No access is unaligned, or
//! outside of what the layouts reach: both sides lie against pages that fault.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]

mod kernels;

use freehold_device::cuda::walk::Kind;
use freehold_tensor::copy::{CopyOptions, Lazy, OnLoss};
use freehold_tensor::{DType, StrideUnit};
use kernels::{Case, Rng, Seen, Spec};

/// The real dtypes that kernels cast.
fn real() -> [DType; 21] {
    Kind::ALL.map(Kind::dtype)
}

const COMPLEX: [DType; 3] = [DType::C32, DType::C64, DType::C128];

fn modes() -> [CopyOptions; 3] {
    [CopyOptions::new(OnLoss::Error), CopyOptions::new(OnLoss::Allow), CopyOptions::new(OnLoss::Saturate)]
}

/// Every value of narrow dtypes, and the edges of wide ones, by every kernel that casts the pair: the one for runs, the one for
/// steps, the transpose.
#[test]
fn every_value_of_every_pair_is_the_processors() {
    let Some(library) = kernels::library("every_value_of_every_pair") else { return };
    let mut rng = Rng(1);
    for from in real() {
        let values = kernels::values(from, &mut rng);
        let n = (values.len() / from.padded_size()) as i64;
        let side = (n as f64).sqrt() as i64;
        for to in real() {
            for options in modes() {
                for (shape, dst, src) in [
                    (vec![n], vec![1], vec![1]),
                    (vec![n], vec![3], vec![1]),
                    (vec![side, side], vec![1, side], vec![side, 1]),
                ] {
                    let dst = Spec::of(to, &dst);
                    let case = Case { shape, src: Spec::of(from, &src), dst, options, values: values.clone() };
                    assert_ne!(library.check(&case), Seen::Unsupported, "{from} -> {to}");
                }
            }
        }
    }
}

/// Complex values from and to every dtype: both parts, the real one, a zero beside it, the truth of either.
#[test]
fn complex_values_have_their_parts() {
    let Some(library) = kernels::library("complex_values") else { return };
    let mut rng = Rng(3);
    for complex in COMPLEX {
        for other in real().into_iter().chain(COMPLEX) {
            for (from, to) in [(complex, other), (other, complex)] {
                let real = if from.is_complex() { DType::new(DType::CODE_FLOAT, from.bits / 2) } else { from };
                let mut values = kernels::values(real, &mut rng);
                let size = from.padded_size();
                // A zero of either sign beside some, for the truth of the other part.
                for value in values.chunks_exact_mut(size).step_by(3).filter(|_| from.is_complex()) {
                    let half = if rng.below(2) == 0 { 0..size / 2 } else { size / 2..size };
                    value[half.clone()].fill(0);
                    value[half.end - 1] = if rng.below(2) == 0 { 0x80 } else { 0 };
                }
                let n = (values.len() / size) as i64;
                for options in modes() {
                    for (dst, src) in [(1, 1), (2, 1)] {
                        let (src, dst) = (Spec::of(from, &[src]), Spec::of(to, &[dst]));
                        let case = Case { shape: vec![n], src, dst, options, values: values.clone() };
                        assert_ne!(library.check(&case), Seen::Unsupported, "{from} -> {to}");
                    }
                }
            }
        }
    }
}

/// A value that is lost is found wherever it lies, and no other is.
#[test]
fn one_lost_value_among_many_is_seen() {
    let Some(library) = kernels::library("one_lost_value") else { return };
    let mut rng = Rng(2);
    for from in real() {
        let values = kernels::values(from, &mut rng);
        let size = from.padded_size();
        for to in real() {
            // Each value alone among zeros, which every pair but the one with e8m0 keeps.
            for value in values.chunks_exact(size).step_by((values.len() / size / 97).max(1)) {
                let n = 70;
                let mut bytes = vec![0; size * n];
                let at = rng.below(n as u64) as usize * size;
                bytes[at..at + size].copy_from_slice(value);
                let options = CopyOptions::new(OnLoss::Error);
                let (src, dst) = (Spec::of(from, &[1]), Spec::of(to, &[1]));
                library.check(&Case { shape: vec![n as i64], src, dst, options, values: bytes });
            }
        }
    }
}

/// Shapes, steps, places, byte order, signs and units as they come.
#[test]
fn any_layout_is_the_processors() {
    let Some(library) = kernels::library("any_layout") else { return };
    let rounds = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4000);
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..rounds {
        let case = random(&mut Rng(seed * 2 + 1));
        if let Seen::Ran(kernel) = library.check(&case) {
            let kind: String = kernel.split('_').take(2).collect::<Vec<_>>().join("_");
            *seen.entry(kind).or_default() += 1;
        }
    }
    for kind in ["fh_cast", "fh_move", "fh_resolve", "fh_stride", "fh_turn", "fh_walk"] {
        assert!(seen.get(kind).is_some_and(|&n| n >= 20) || rounds < 4000, "{kind} was hardly run: {seen:?}");
    }
}

fn random(rng: &mut Rng) -> Case {
    const COMMON: [DType; 8] =
        [DType::F32, DType::F16, DType::BF16, DType::F64, DType::U8, DType::I64, DType::I32, DType::F8_E4M3FN];
    let any = |rng: &mut Rng| match rng.below(8) {
        0 => *rng.pick(&COMPLEX),
        1..=3 => *rng.pick(&real()),
        _ => *rng.pick(&COMMON),
    };
    let from = match rng.below(10) {
        0 => DType::new(DType::CODE_OPAQUE, *rng.pick(&[8, 24, 48, 96, 128])),
        1 => any(rng).with_lanes(*rng.pick(&[2, 3, 4, 5, 16])),
        _ => any(rng),
    };
    let to = if from.code == DType::CODE_OPAQUE || rng.below(2) == 0 { from } else { any(rng).with_lanes(from.lanes) };
    let ndim = rng.below(6) as usize;
    let long = rng.below(3) == 0;
    let shape: Vec<i64> = (0..ndim)
        .map(|_| match rng.below(12) {
            0 => 1,
            1 if rng.below(6) == 0 => 0,
            2..=7 if ndim > 2 => 2 + rng.below(4) as i64,
            _ => {
                2 + rng.below(if ndim < 3 {
                    300
                } else if long && ndim < 4 {
                    90
                } else {
                    20
                }) as i64
            }
        })
        .collect();
    let total = |shape: &[i64]| shape.iter().map(|&n| n.max(1)).product::<i64>();
    let shape = if total(&shape) > 40_000 { shape[..ndim.min(2)].to_vec() } else { shape };
    let options = *rng.pick(&modes());
    let mut src = Spec::random(from, &shape, true, rng);
    let mut dst = Spec::random(to, &shape, false, rng);
    let lazy = [Lazy::SWAPPED, Lazy::NEG, Lazy::CONJ];
    for bit in lazy {
        src.traits.set(bit, rng.below(6) == 0);
        dst.traits.set(bit, rng.below(30) == 0 || src.traits.contains(bit) && rng.below(3) == 0);
    }
    let reach = kernels::reach(&src, &shape);
    Case { values: rng.bytes(reach), shape, src, dst, options }
}

/// What no kernel does is refused before anything is launched.
#[test]
fn what_no_kernel_does_is_unsupported() {
    let Some(library) = kernels::library("what_no_kernel_does") else { return };
    let case = |from: DType, to: DType| Case {
        shape: vec![8],
        src: Spec::of(from, &[1]),
        dst: Spec::of(to, &[1]),
        options: CopyOptions::new(OnLoss::Allow),
        values: vec![1; 128],
    };
    for (from, to) in [(DType::F32, DType::F4_E2M1FN), (DType::F4_E2M1FN, DType::F4_E2M1FN)] {
        assert_eq!(library.check(&case(from, to)), Seen::Unsupported, "{from} -> {to}");
    }
}

/// Steps in bytes put elements where no type is aligned.
#[test]
fn elements_at_odd_places() {
    let Some(library) = kernels::library("odd_places") else { return };
    let mut rng = Rng(7);
    for from in real() {
        for to in [DType::F32, DType::I64, DType::U8, DType::F16, DType::F8_E5M2, from] {
            for (shift_src, shift_dst) in [(0, 1), (1, 0), (3, 5), (8, 8), (16, 2)] {
                let shape = vec![3, 100];
                let odd = |dtype: DType, shift| {
                    let size = dtype.padded_size() as i64;
                    let strides = vec![101 * size + shift, size];
                    Spec { dtype, strides, unit: StrideUnit::Bytes, traits: Lazy::empty(), shift: shift as usize }
                };
                let (src, dst) = (odd(from, shift_src), odd(to, shift_dst));
                let values = rng.bytes(kernels::reach(&src, &shape));
                let options = CopyOptions::new(OnLoss::Allow);
                library.check(&Case { shape, src, dst, options, values });
            }
        }
    }
}

/// The dtypes of every size that is filled.
const FILLED: [DType; 6] = [DType::U8, DType::F16, DType::I32, DType::F64, DType::C64, DType::C128];

/// Runs of every length up to some words, at every address: what is before and behind them stays.
#[test]
fn runs_are_filled_at_any_address() {
    let Some(library) = kernels::library("runs_are_filled") else { return };
    let mut rng = Rng(11);
    for dtype in FILLED {
        let value = rng.bytes(dtype.padded_size());
        for n in (1..40).chain([255, 4096, 70_001]) {
            for shift in 0..16 {
                let seen = library.check_fill(&Spec { shift, ..Spec::of(dtype, &[1]) }, &[n], &value);
                assert_ne!(seen, Seen::Unsupported, "{n} of {dtype}");
            }
        }
    }
}

/// Any layout, in elements or in bytes, so that elements lie where no type is aligned.
#[test]
fn any_layout_is_filled() {
    let Some(library) = kernels::library("any_layout_is_filled") else { return };
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..3000 {
        let rng = &mut Rng(seed * 2 + 1);
        let dtype = *rng.pick(&FILLED);
        let most = if rng.below(4) == 0 { 300 } else { 9 };
        let shape: Vec<i64> = (0..rng.below(5)).map(|_| rng.below(most) as i64 + i64::from(rng.below(9) > 0)).collect();
        if shape.iter().product::<i64>() > 60_000 {
            continue;
        }
        let mut spec = Spec::random(dtype, &shape, false, rng);
        if rng.below(4) == 0 {
            // Steps that are no multiple of an element.
            spec.unit = StrideUnit::Bytes;
            let mut step = dtype.padded_size() as i64 + 1;
            for (stride, n) in spec.strides.iter_mut().zip(&shape).rev() {
                *stride = step;
                step = step * n.max(&1) + 1;
            }
        }
        let value = rng.bytes(dtype.padded_size());
        match library.check_fill(&spec, &shape, &value) {
            Seen::Ran(kernel) => *seen.entry(kernel).or_default() += 1,
            Seen::Nothing => {}
            Seen::Unsupported => panic!("{spec:?}, shape {shape:?}"),
        }
    }
    assert!(seen.len() == 2 && seen.values().all(|&n| n > 200), "{seen:?}");
}

/// What no kernel fills, and what is no value of the elements.
#[test]
fn what_cannot_be_filled_is_said() {
    let Some(library) = kernels::library("what_cannot_be_filled") else { return };
    let opaque = DType::new(DType::CODE_OPAQUE, 24);
    assert_eq!(library.check_fill(&Spec::of(opaque, &[1]), &[8], &[1, 2, 3]), Seen::Unsupported);
    // Nine axes that do not join.
    let strides: Vec<i64> = (0..9).map(|i| 3_i64.pow(8 - i)).collect();
    assert_eq!(library.check_fill(&Spec::of(DType::U8, &strides), &[2; 9], &[1]), Seen::Unsupported);
}
