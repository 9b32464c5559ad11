//! Single answers that the specification names.

use crate::copy::{CopyError, CopyOptions, Lazy, LossValue, OnLoss, Operand, copy};
use crate::{DType, Layout, StrideUnit};

const ALLOW: CopyOptions = CopyOptions::new(OnLoss::Allow);
const ERROR: CopyOptions = CopyOptions::new(OnLoss::Error);

/// A compact copy of `values` to a `Vec` of another type.
fn run<S: Copy, D: Copy + Default>(
    from: DType,
    to: DType,
    values: &[S],
    options: &CopyOptions,
) -> Result<Vec<D>, CopyError> {
    let mut source = values.to_vec();
    let mut target = vec![D::default(); values.len()];
    let shape = [values.len() as i64];
    let layout = Layout::new(&shape, &[1]);
    let (unit, traits) = (StrideUnit::Elements, Lazy::empty());
    let src = Operand { data: source.as_mut_ptr().cast(), dtype: from, layout, unit, traits };
    let dst = Operand { data: target.as_mut_ptr().cast(), dtype: to, layout, unit, traits };
    // SAFETY: both vectors have the type that their dtype says, and one element a value.
    unsafe { copy(&dst, &src, options) }.map(|()| target)
}

fn loss(result: Result<Vec<impl Sized>, CopyError>) -> (u64, i64, LossValue) {
    match result {
        Err(CopyError::Loss(loss)) => (loss.count, loss.first_index[0], loss.first_value),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no loss"),
    }
}

#[test]
fn integers_that_a_float_cannot_hold_are_losses() {
    let exact = run::<i32, f32>(DType::I32, DType::F32, &[0, -1, 1 << 24, i32::MIN], &ERROR);
    assert_eq!(exact, Ok(vec![0.0, -1.0, 16_777_216.0, -2_147_483_648.0]));
    let lost = run::<i32, f32>(DType::I32, DType::F32, &[5, (1 << 24) + 1, i32::MAX], &ERROR);
    assert_eq!(loss(lost), (2, 1, LossValue::Int(16_777_217)));
    let lost = run::<i32, u16>(DType::I32, DType::F16, &[65_504, 70_000, 2049], &ERROR);
    assert_eq!(loss(lost), (2, 1, LossValue::Int(70_000)));
    let lost = run::<i64, f64>(DType::I64, DType::F64, &[i64::MIN, i64::MAX, (1 << 53) + 1], &ERROR);
    assert_eq!(loss(lost), (2, 1, LossValue::Int(i64::MAX.into())));
    let lost = run::<u64, f64>(DType::U64, DType::F64, &[1 << 63, u64::MAX], &ERROR);
    assert_eq!(loss(lost), (1, 1, LossValue::Int(u64::MAX.into())));
    // Lost in both steps, counted once.
    let lost = run::<i64, u16>(DType::I64, DType::F16, &[(1 << 40) + 1, 7], &ERROR);
    assert_eq!(loss(lost), (1, 0, LossValue::Int((1 << 40) + 1)));
    assert_eq!(run::<u8, u8>(DType::BOOL, DType::F8_E8M0FNU, &[1, 2], &ERROR), Ok(vec![0x7f, 0x7f]));
    assert_eq!(loss(run::<u8, u8>(DType::BOOL, DType::F8_E8M0FNU, &[1, 0], &ERROR)), (1, 1, LossValue::Int(0)));
}

#[test]
fn floats_to_integers() {
    let values = [1.0, -1.5, f64::NAN, f64::INFINITY, 3e9, -0.0, -2_147_483_648.0, 2_147_483_648.0];
    let (count, first, value) = loss(run::<f64, i32>(DType::F64, DType::I32, &values, &ERROR));
    assert_eq!((count, first, value), (5, 1, LossValue::Float(-1.5)));
    let allowed = run::<f64, i32>(DType::F64, DType::I32, &values, &ALLOW);
    assert_eq!(allowed, Ok(vec![1, -1, 0, i32::MAX, i32::MAX, 0, i32::MIN, i32::MAX]));
    // 2^31 is an f32 that saturates to MAX, whose own f32 is 2^31 again.
    let lost = run::<f32, i32>(DType::F32, DType::I32, &[2_147_483_648.0], &ERROR);
    assert_eq!(loss(lost).0, 1);
    assert_eq!(run::<f32, u8>(DType::F32, DType::U8, &[255.0, 0.0], &ERROR), Ok(vec![255, 0]));
    assert_eq!(loss(run::<f32, u8>(DType::F32, DType::U8, &[255.0, 256.0, -1.0], &ERROR)).0, 2);
}

#[test]
fn integers_saturate_only_where_allowed() {
    assert_eq!(run::<i64, i32>(DType::I64, DType::I32, &[1 << 40, -5], &ALLOW), Ok(vec![i32::MAX, -5]));
    assert_eq!(loss(run::<i64, i32>(DType::I64, DType::I32, &[3, 1 << 40], &ERROR)), (1, 1, LossValue::Int(1 << 40)));
    assert_eq!(run::<i8, u64>(DType::I8, DType::U64, &[-1, 1], &ALLOW), Ok(vec![0, 1]));
    assert_eq!(loss(run::<i8, u64>(DType::I8, DType::U64, &[-1, 1], &ERROR)), (1, 0, LossValue::Int(-1)));
    assert_eq!(loss(run::<u64, i64>(DType::U64, DType::I64, &[u64::MAX], &ERROR)).2, LossValue::Int(u64::MAX.into()));
}

#[test]
fn truth_and_real_parts_must_be_allowed() {
    let forbidden = CopyError::Forbidden { from: DType::F32, to: DType::BOOL };
    assert_eq!(run::<f32, u8>(DType::F32, DType::BOOL, &[1.0], &ERROR), Err(forbidden));
    let truth = run::<f32, u8>(DType::F32, DType::BOOL, &[1.0, 0.0, -0.0, f32::NAN, 1e-45], &ALLOW);
    assert_eq!(truth, Ok(vec![1, 0, 0, 1, 1]));
    let values = [[1.5f32, 2.0], [0.0, 3.0], [0.0, -0.0]];
    assert_eq!(run::<[f32; 2], u8>(DType::C64, DType::BOOL, &values, &ALLOW), Ok(vec![1, 1, 0]));
    assert_eq!(run::<[f32; 2], f64>(DType::C64, DType::F64, &values, &ALLOW), Ok(vec![1.5, 0.0, 0.0]));
    assert_eq!(run::<[f32; 2], i8>(DType::C64, DType::I8, &values, &ALLOW), Ok(vec![1, 0, 0]));
    let forbidden = CopyError::Forbidden { from: DType::C64, to: DType::F64 };
    assert_eq!(run::<[f32; 2], f64>(DType::C64, DType::F64, &values, &ERROR), Err(forbidden));
    assert_eq!(run::<i16, [f32; 2]>(DType::I16, DType::C64, &[7, -7], &ERROR), Ok(vec![[7.0, 0.0], [-7.0, 0.0]]));
    assert_eq!(run::<u8, u8>(DType::BOOL, DType::BOOL, &[0, 1, 2], &ERROR), Ok(vec![0, 1, 2]));
    assert_eq!(run::<u8, i16>(DType::BOOL, DType::I16, &[0, 1, 2], &ERROR), Ok(vec![0, 1, 1]));
}

#[test]
fn overflow_by_format_and_saturation() {
    let values = [1e9f32, f32::INFINITY, -1e9, 1.0];
    let saturate = CopyOptions { saturate: true, ..ERROR };
    for (to, plain, clamped) in [
        (DType::F8_E4M3FN, [0x7f, 0x7f, 0xff, 0x38], [0x7e, 0x7e, 0xfe, 0x38]),
        (DType::F8_E5M2, [0x7c, 0x7c, 0xfc, 0x3c], [0x7b, 0x7b, 0xfb, 0x3c]),
        (DType::F8_E4M3FNUZ, [0x80, 0x80, 0x80, 0x40], [0x7f, 0x7f, 0xff, 0x40]),
    ] {
        assert_eq!(run::<f32, u8>(DType::F32, to, &values, &ERROR), Ok(plain.to_vec()), "{to}");
        // Said in either way; and the short way for small runs, which this is, says what the long one does.
        for options in [saturate, CopyOptions::new(OnLoss::Saturate)] {
            assert_eq!(run::<f32, u8>(DType::F32, to, &values, &options), Ok(clamped.to_vec()), "{to}");
            let times = if cfg!(miri) { 300 } else { 30_000 };
            let many = values.repeat(times);
            assert_eq!(run::<f32, u8>(DType::F32, to, &many, &options), Ok(clamped.repeat(times)), "{to}");
        }
    }
    // An exact cast has no overflow: infinity stays.
    assert_eq!(run::<u16, f32>(DType::F16, DType::F32, &[0x7c00], &saturate), Ok(vec![f32::INFINITY]));
}

#[test]
fn packed_fp4_padded_fp4_and_two_lane_fp4_are_the_same_values() {
    // 1.0 = 2, -6.0 = 0xf, 0.5 = 1; an odd count leaves half of the last byte.
    let mut packed = [0xf2u8, 0x01];
    let mut target = [0f32; 3];
    let layout = Layout::new(&[3], &[1]);
    let unit = StrideUnit::Elements;
    let src = Operand { data: packed.as_mut_ptr(), dtype: DType::F4_E2M1FN, layout, unit, traits: Lazy::empty() };
    let dst = Operand { data: target.as_mut_ptr().cast(), dtype: DType::F32, layout, unit, traits: Lazy::empty() };
    // SAFETY: two bytes hold three values of four bits; the target holds three floats.
    unsafe { copy(&dst, &src, &ERROR) }.expect("exact");
    assert_eq!(target, [1.0, -6.0, 0.5]);
    let mut padded = [0xaau8; 3];
    let dst = Operand { data: padded.as_mut_ptr(), dtype: DType::F4_E2M1FN, layout, unit, traits: Lazy::PADDED };
    // SAFETY: as above; padded values have a byte each.
    unsafe { copy(&dst, &src, &ERROR) }.expect("bits");
    assert_eq!(padded, [2, 0xf, 1]);
    let mut wide = [0f64; 2];
    let layout = Layout::new(&[1], &[1]);
    let src = Operand { data: packed.as_mut_ptr(), dtype: DType::F4_E2M1FN.with_lanes(2), layout, ..src };
    let dst = Operand {
        data: wide.as_mut_ptr().cast(),
        dtype: DType::F64.with_lanes(2),
        layout,
        unit,
        traits: Lazy::empty(),
    };
    // SAFETY: one element of two lanes on both sides.
    unsafe { copy(&dst, &src, &ERROR) }.expect("exact");
    assert_eq!(wide, [1.0, -6.0]);
}

#[test]
fn bad_metadata_is_named_and_empty_tensors_touch_nothing() {
    let null = std::ptr::null_mut();
    let operand = |shape, strides, dtype| Operand {
        data: null,
        dtype,
        layout: Layout { shape, strides },
        unit: StrideUnit::Elements,
        traits: Lazy::empty(),
    };
    let field = |dst: Operand<'_>, src: Operand<'_>| {
        // SAFETY: every one of these is refused, or empty, before its pointer is used.
        match unsafe { copy(&dst, &src, &ERROR) } {
            Err(CopyError::Shape(error)) => error.field,
            other => panic!("{other:?}"),
        }
    };
    let f = DType::F32;
    assert_eq!(field(operand(&[2], &[1], f), operand(&[3], &[1], f)), "shape");
    assert_eq!(field(operand(&[2], &[1], f), operand(&[2, 1], &[1, 1], f)), "ndim");
    assert_eq!(field(operand(&[2], &[1, 1], f), operand(&[2], &[1], f)), "strides");
    assert_eq!(field(operand(&[2], &[0], f), operand(&[2], &[1], f)), "strides");
    assert_eq!(field(operand(&[2], &[1], f), operand(&[2], &[1], f)), "data");
    assert_eq!(field(operand(&[], &[], f), operand(&[], &[], f)), "data");
    assert_eq!(field(operand(&[2], &[i64::MAX], f), operand(&[2], &[1], f)), "strides");
    let bits = DType::U4;
    assert_eq!(field(operand(&[2], &[1 << 60], bits), operand(&[2], &[1 << 61], bits)), "strides");
    let (empty, none) = (operand(&[3, 0], &[0, 0], f), operand(&[3, 0], &[7, 7], DType::I64));
    // SAFETY: no element, so no pointer is used.
    assert_eq!(unsafe { copy(&empty, &none, &ERROR) }, Ok(()));
}

#[test]
fn messages() {
    let lost = run::<i64, i32>(DType::I64, DType::I32, &[3, 1_099_511_627_781], &ERROR);
    let text = lost.expect_err("out of range").to_string();
    assert_eq!(text, "1 of 2 i64 value would change in i32; the first is 1099511627781 at [1]");
    let lost = run::<f32, u8>(DType::F32, DType::U8, &[1e30, 0.5], &ERROR);
    let text = lost.expect_err("out of range").to_string();
    assert_eq!(text, "2 of 2 f32 values would change in u8; the first is 1.0000000150474662e30 at [0]");
}
