//! Parts that are gathered: chunks one after another, and tables whose columns have chunks of their own.

use freehold::{
    Along, Asked, Caps, Code, DType, Decision, Dialect, Label, Layout, OnLoss, Order, Policy, Request, Result, Tensor,
    TensorDesc, Traits, decide, gather,
};
use proptest::prelude::*;

/// Gathers parts, cast to f64, in an order.
fn gathered(parts: &[Tensor], along: Along, shape: &[i64], order: Order) -> Result<Tensor> {
    let strides = freehold::tensor_algebra::compact_strides(shape, Order::C).expect("small shapes fit");
    let desc = TensorDesc {
        address: 0,
        device: freehold::Device::CPU,
        dtype: DType::F32,
        layout: Layout::new(shape, &strides),
        traits: Traits::empty(),
        framework: Label::PANDAS,
    };
    let request = Request { dtype: Some(DType::F64), order, on_loss: OnLoss::Error, ..Request::copy() };
    let decision: Decision = decide(&desc, &request, &Caps::FREEHOLD, &Policy::DEFAULT);
    let asked: Vec<Asked<'_>> = parts
        .iter()
        .map(|part| Asked::new(part.desc(), &request, &Caps::FREEHOLD, &Policy::DEFAULT, Dialect::Rust))
        .collect();
    gather(parts, along, &decision, &asked, Label::NONE)
}

fn part(values: &[f32]) -> Tensor {
    Tensor::from_vec(values.to_vec(), &[values.len() as i64]).expect("as many values as the shape has")
}

/// A column cut into parts at the given places.
fn cut(column: &[f32], cuts: &[usize]) -> Vec<Tensor> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (column.len() + 1)).chain([0, column.len()]).collect();
    places.sort_unstable();
    places.dedup();
    if column.is_empty() { vec![part(&[])] } else { places.windows(2).map(|w| part(&column[w[0]..w[1]])).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_its_columns_side_by_side(
        rows in 0usize..9,
        cuts in proptest::collection::vec(proptest::collection::vec(0usize..9, 0..3), 1..5),
        f_order in any::<bool>(),
    ) {
        let columns = cuts.len();
        let value = |row: usize, column: usize| (row * columns + column) as f32;
        let parts: Vec<Tensor> = cuts
            .iter()
            .enumerate()
            .flat_map(|(c, cuts)| cut(&(0..rows).map(|r| value(r, c)).collect::<Vec<_>>(), cuts))
            .collect();
        let order = if f_order { Order::F } else { Order::C };
        let shape = [rows as i64, columns as i64];
        let whole = gathered(&parts, Along::Columns { rows: rows as i64 }, &shape, order).unwrap();
        prop_assert_eq!(whole.shape(), &shape[..]);
        let expected: Vec<f64> = (0..rows * columns).map(|i| i as f64).collect();
        prop_assert_eq!(whole.view::<f64>().unwrap().to_vec(), expected);
    }

    #[test]
    fn chunks_are_one_after_another(values in proptest::collection::vec(-9i16..9, 0..20), cuts in proptest::collection::vec(0usize..20, 0..4)) {
        let values: Vec<f32> = values.into_iter().map(f32::from).collect();
        let parts = cut(&values, &cuts);
        let whole = gathered(&parts, Along::Chunks, &[values.len() as i64], Order::C).unwrap();
        let expected: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        prop_assert_eq!(whole.view::<f64>().unwrap().to_vec(), expected);
    }
}

#[test]
fn parts_that_fill_no_columns_are_refused() {
    let columns = Along::Columns { rows: 3 };
    for parts in [
        vec![part(&[1.0, 2.0])],
        vec![part(&[1.0, 2.0]), part(&[3.0, 4.0])],
        vec![part(&[1.0, 2.0, 3.0]), part(&[4.0])],
        vec![part(&[1.0, 2.0, 3.0, 4.0])],
        vec![Tensor::from_vec(vec![1.0f32], &[]).unwrap()],
        vec![],
    ] {
        let error = gathered(&parts, columns, &[3, 1], Order::C).unwrap_err();
        assert_eq!(error.code(), Code::AR01, "{error}");
    }
}
