//! Layouts large enough for tiles, lanes and streams, on every level, against the oracle.

use proptest::prelude::*;

use super::property::{Placement, check, compact, config, options, placement};
use crate::copy::level::Level;
use crate::copy::way::tuning::Tuning;
use crate::copy::{CopyOptions, Lazy, Operand, copy};
use crate::{DType, KNOWN_DTYPES, Layout, StrideUnit};

/// Few elements, and enough for whole vectors and tiles, in two to four dimensions.
fn shape() -> impl Strategy<Value = Vec<i64>> {
    if cfg!(miri) {
        return prop_oneof![Just(vec![3, 17]), Just(vec![18, 5]), Just(vec![65, 3, 2]), Just(vec![9, 5, 4])].boxed();
    }
    let few = prop_oneof![1..6i64, 15..18i64, 63..66i64];
    let many = prop_oneof![30..34i64, 60..70i64, 120..140i64, 250..300i64, Just(1000i64)];
    prop_oneof![
        (many.clone(), many.clone()).prop_map(|(a, b)| vec![a, b.min(40_000 / a)]),
        (few.clone(), many.clone()).prop_map(|(a, b)| vec![a, b]),
        (many.clone(), few.clone()).prop_map(|(a, b)| vec![a, b]),
        (1..4i64, few.clone(), many.clone()).prop_map(|(a, b, c)| vec![a, b, c.min(40_000 / (a * b))]),
        (1..4i64, many.clone(), few.clone()).prop_map(|(a, b, c)| vec![a, b.min(40_000 / (a * c)), c]),
        (2..5i64, 2..5i64, few.clone(), few).prop_map(|(a, b, c, d)| vec![a, b, c, d.min(20_000 / (a * b * c))]),
    ]
    .boxed()
}

/// Dtypes of every size, and pairs that widen and narrow.
fn pair() -> impl Strategy<Value = (DType, DType)> {
    let sizes = [DType::U8, DType::F16, DType::F32, DType::F64, DType::C128];
    let odd = [DType::new(DType::CODE_FLOAT, 80), DType::I8.with_lanes(3), DType::F32.with_lanes(3)];
    let known = prop::sample::select(KNOWN_DTYPES.to_vec());
    prop_oneof![
        3 => prop::sample::select(sizes.to_vec()).prop_map(|t| (t, t)),
        1 => prop::sample::select(odd.to_vec()).prop_map(|t| (t, t)),
        3 => (known.clone(), known),
    ]
}

fn tuning() -> impl Strategy<Value = Tuning> {
    let threads = prop::sample::select(vec![None, Some(1), Some(2), Some(3)]);
    (any::<bool>(), threads, any::<bool>()).prop_map(|(stream_all, threads, ask_ahead)| Tuning {
        stream_all,
        threads: threads.filter(|_| !cfg!(miri)),
        no_short: true,
        ask_ahead,
    })
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn every_level_matches_the_oracle(
        (from, to) in pair(),
        shape in shape(),
        source in placement(true),
        target in placement(false),
        options in options(),
        tuning in tuning(),
        level in prop::sample::select(Level::available().collect::<Vec<_>>()),
        seed: u64,
    ) {
        level.force(|| tuning.during(|| check(from, to, &shape, &source, &target, &options, seed)));
    }
}

/// Pairs are moved as one wider element. What is left of a streamed line after whole blocks may be a single one, which is a run.
#[test]
#[cfg_attr(miri, ignore = "there are no streams")]
fn the_last_of_a_line_of_pairs_is_whole_on_every_level() {
    let backwards =
        Placement { order: vec![0; 6], negative: vec![false, true, false, false, false, false], ..compact() };
    for level in Level::available() {
        for (dtype, block) in [(DType::U8, 1024), (DType::F16, 512), (DType::F32, 256), (DType::F64, 128)] {
            for (few, n) in [2, 4].into_iter().flat_map(|few| (0..40).map(move |over| (few, 2 * block / few + over))) {
                for misaligned in 0..2 {
                    let forwards = Placement { order: vec![0; 6], misaligned, ..compact() };
                    let run = || check(dtype, dtype, &[few, n], &backwards, &forwards, &CopyOptions::default(), 7);
                    level.force(|| {
                        Tuning { stream_all: true, threads: None, no_short: true, ask_ahead: false }.during(run)
                    });
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "hours; the random shapes above take the same ways")]
fn named_layouts_match_the_oracle_on_every_level() {
    let order = |order: &[u8]| {
        let mut placement = compact();
        placement.order[..order.len()].copy_from_slice(order);
        placement
    };
    let c4 = order(&[3, 2, 1, 0]);
    let cases: &[(&str, &[i64], Placement, Placement)] = &[
        ("transpose", &[70, 130], order(&[0, 1]), order(&[1, 0])),
        ("whole lines apart", &[200, 320], order(&[0, 1]), Placement { misaligned: 0, ..order(&[1, 0]) }),
        ("lines far apart", &[275, 512], order(&[0, 1]), Placement { misaligned: 0, ..order(&[1, 0]) }),
        ("lines far apart, the other way", &[512, 275], order(&[1, 0]), Placement { misaligned: 0, ..order(&[0, 1]) }),
        ("lines far apart, rows anywhere", &[150, 1024], order(&[0, 1]), Placement { misaligned: 1, ..order(&[1, 0]) }),
        (
            "lines backwards, rows not whole lines apart",
            &[250, 301],
            Placement {
                negative: vec![false, true, false, false, false, false],
                gaps: vec![3, 0, 0, 0, 0, 0],
                ..order(&[0, 1])
            },
            Placement { misaligned: 0, ..order(&[1, 0]) },
        ),
        ("NHWC to NCHW", &[2, 3, 9, 21], order(&[3, 0, 2, 1]), c4.clone()),
        ("NCHW to NHWC", &[2, 3, 9, 21], c4.clone(), order(&[3, 0, 2, 1])),
        ("many channels", &[2, 37, 8, 9], order(&[3, 0, 2, 1]), c4.clone()),
        ("heads of four", &[2, 40, 30, 4], order(&[3, 1, 2, 0]), c4.clone()),
        ("small matrices", &[700, 3, 5], order(&[2, 0, 1]), order(&[2, 1, 0])),
        (
            "small matrices apart",
            &[90, 7, 7],
            order(&[2, 0, 1]),
            Placement { gaps: vec![5, 1, 0, 0, 0, 0], ..order(&[2, 1, 0]) },
        ),
        ("all turned", &[7, 11, 13, 5], order(&[0, 1, 2, 3]), order(&[3, 2, 1, 0])),
        ("reversed", &[1000], Placement { negative: vec![true; 6], ..compact() }, compact()),
        (
            "repeated",
            &[19, 100],
            Placement { broadcast: vec![true, false, false, false, false, false], ..compact() },
            compact(),
        ),
        (
            "filled",
            &[19, 100],
            Placement { broadcast: vec![false, true, false, false, false, false], ..compact() },
            compact(),
        ),
    ];
    for (name, shape, source, target) in cases {
        for level in Level::available() {
            for stream_all in [false, true] {
                for (from, to) in [
                    (DType::U8, DType::U8),
                    (DType::F16, DType::F16),
                    (DType::F32, DType::F32),
                    (DType::F64, DType::F64),
                    (DType::C128, DType::C128),
                    (DType::F32, DType::BF16),
                    (DType::U8, DType::F32),
                    (DType::U4, DType::F32),
                    (DType::F32, DType::F4_E2M1FN),
                    (DType::F64, DType::F8_E4M3FN),
                ] {
                    let run = || check(from, to, shape, source, target, &CopyOptions::default(), 7);
                    println!("{name} {from} -> {to} {level:?}");
                    level.force(|| Tuning { stream_all, threads: None, no_short: true, ask_ahead: false }.during(run));
                }
            }
        }
    }
}

/// Lines with gaps, in memory that ends with the last element: where Miri says of a pointer that it is beyond.
#[test]
fn a_line_with_gaps_reaches_no_further_than_its_last_element() {
    fn spread<T: Copy + PartialEq + std::fmt::Debug>(dtype: DType, values: &[T], none: T) {
        let n = values.len();
        let (shape, gap) = ([n as i64], 5);
        let operand = |data: *mut T, stride: &'static i64| Operand {
            data: data.cast(),
            dtype,
            layout: Layout { shape: &shape, strides: std::slice::from_ref(stride) },
            unit: StrideUnit::Elements,
            traits: Lazy::empty(),
        };
        let apart = || vec![none; (n - 1) * gap + 1].into_boxed_slice();
        let (mut source, mut between, mut target) =
            (Box::<[T]>::from(values), apart(), vec![none; n].into_boxed_slice());
        let (from, to) = (operand(source.as_mut_ptr(), &1), operand(target.as_mut_ptr(), &1));
        let with_gaps = operand(between.as_mut_ptr(), &5);
        // SAFETY: each layout reaches the elements of its own memory.
        unsafe {
            copy(&with_gaps, &from, &CopyOptions::default()).expect("a dtype is itself");
            copy(&to, &with_gaps, &CopyOptions::default()).expect("a dtype is itself");
        }
        assert_eq!(&target[..], values);
    }
    for level in Level::available() {
        for n in (1..20).chain([24, 32, 40, 64]) {
            let values: Vec<u8> = (1..=n).collect();
            level.force(|| {
                spread(DType::U8, &values, 0);
                spread(DType::U16, &values.iter().map(|&x| x.into()).collect::<Vec<u16>>(), 0);
                spread(DType::F32, &values.iter().map(|&x| x.into()).collect::<Vec<f32>>(), 0.0);
                spread(DType::F64, &values.iter().map(|&x| x.into()).collect::<Vec<f64>>(), 0.0);
                spread(DType::C128, &values.iter().map(|&x| [x.into(), 0.5]).collect::<Vec<[f64; 2]>>(), [0.0; 2]);
            });
        }
    }
}
