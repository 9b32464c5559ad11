//! What `decide` says and what `convert` then does are the same thing: verdict, bytes, aliasing, writability, values.

use freehold::ledger::Level;
use freehold::{
    Caps, Code, CopyRule, DType, Device, DeviceSet, ImportOptions, Label, OnLoss, Order, Owner, Policy, RawTensor,
    Request, Runtime, Tensor, Traits, Verdict, convert, decide, shares_plainly,
};
use proptest::prelude::*;

const DTYPES: &[DType] =
    &[DType::U8, DType::I16, DType::I32, DType::F32, DType::F64, DType::C64, DType::BF16, DType::BOOL];

#[derive(Clone, Debug)]
struct Case {
    dtype: DType,
    shape: Vec<i64>,
    strides: Vec<i64>,
    traits: Traits,
    request: Request,
    target: usize,
    offset: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let dims = (0usize..4).prop_flat_map(|ndim| {
        (proptest::collection::vec(0i64..4, ndim), proptest::collection::vec(-3i64..5, ndim), 0u8..3)
    });
    let traits = proptest::sample::select(vec![
        Traits::empty(),
        Traits::READ_ONLY,
        Traits::IMMUTABLE,
        Traits::REQUIRES_GRAD,
        Traits::NEG,
        Traits::SWAPPED,
    ]);
    let request = (
        proptest::option::weighted(0.4, proptest::sample::select(DTYPES)),
        proptest::sample::select(vec![CopyRule::Never, CopyRule::IfNeeded, CopyRule::Always]),
        proptest::sample::select(vec![Order::Any, Order::C, Order::F]),
        proptest::option::of(any::<bool>()),
        any::<bool>(),
        any::<bool>(),
    );
    (proptest::sample::select(DTYPES), dims, traits, request, 0usize..3, 0usize..17).prop_map(
        |(dtype, (shape, free, kind), traits, (to, copy, order, writable, allow, detach), target, offset)| {
            let mut strides = free;
            let mut step = 1;
            let n = shape.len();
            // Compact C, compact F, or whatever was drawn.
            for i in 0..n {
                let d = if kind == 0 { n - 1 - i } else { i };
                if kind < 2 {
                    strides[d] = step;
                    step *= shape[d].max(1);
                }
            }
            let on_loss = if allow { OnLoss::Allow } else { OnLoss::Error };
            let request = Request { dtype: to, copy, order, writable, on_loss, detach, ..Request::default() };
            Case { dtype, shape, strides, traits, request, target, offset }
        },
    )
}

/// A tensor in the middle of a buffer large enough for every layout above.
fn tensor(case: &Case, rt: &Runtime) -> Tensor {
    let mut bytes: Vec<u8> = (0..4096usize).map(|i| (i % 2) as u8).collect();
    let raw = RawTensor {
        // Of the whole vector: negative strides reach below the first element.
        data: bytes.as_mut_ptr().wrapping_add(2048 + case.offset),
        shape: &case.shape,
        strides: Some(&case.strides),
        dtype: case.dtype,
        device: Device::CPU,
        owner: Owner::Value(Box::new(bytes)),
    };
    let options = ImportOptions {
        runtime: rt.clone(),
        framework: Label::intern("numpy"),
        traits: case.traits,
        ..ImportOptions::default()
    };
    // SAFETY: every layout reaches at most 3 * 3 * 4 * 16 bytes in either direction, and the vector is the owner.
    unsafe { Tensor::from_raw(raw, &options) }.expect("valid")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 12 } else { 4000 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a18_a40_the_decision_is_what_happens(case in case()) {
        let rt = Runtime::new(Level::Records);
        let source = tensor(&case, &rt);
        let caps = [&Caps::NUMPY, &Caps::TORCH, &Caps::FREEHOLD][case.target];
        let decision = decide(&source.desc(), &case.request, caps, &Policy::DEFAULT);
        prop_assert_eq!(&decision, &decide(&source.desc(), &case.request, caps, &Policy::DEFAULT), "pure");
        // The short way says nothing that the long one does not.
        for policy in ["", "readonly=reject,alias=trust,copies=error,sync=error,max_copy_bytes=0", "devices=cuda"] {
            let policy = Policy::parse(policy).expect("valid");
            for caps in [caps, &Caps::JAX, &Caps::TENSORFLOW, &Caps::PYARROW, &Caps::PYARROW_TENSOR, &Caps::PADDLE] {
                let Some(codes) = shares_plainly(&source.desc(), caps, policy.devices) else { continue };
                for request in [Request::share(), Request::convert()] {
                    let long = decide(&source.desc(), &request, caps, &policy);
                    prop_assert_eq!(long.verdict, Verdict::Share);
                    prop_assert_eq!(long.writable, source.is_writable());
                    prop_assert!(!long.trusted && !long.bit_view && long.device == source.device());
                    prop_assert_eq!(long.codes().to_vec(), codes.to_vec());
                }
            }
        }
        let result = convert(&source, &case.request, caps, &Policy::DEFAULT);
        match (&result, decision.verdict) {
            (Err(error), Verdict::Reject) => prop_assert_eq!(Some(error.code()), decision.code()),
            // Values are the one thing that metadata cannot tell.
            (Err(error), Verdict::Copy) => {
                prop_assert_eq!(error.code(), Code::CA02);
                prop_assert!(case.request.dtype.is_some() && case.request.on_loss == OnLoss::Error);
            }
            (Ok(out), Verdict::Share) => {
                prop_assert_eq!(decision.bytes_copied, 0);
                prop_assert_eq!(out.data_ptr(), source.data_ptr());
                prop_assert_eq!(out.strides(), source.strides());
                prop_assert_eq!(out.is_writable(), decision.writable);
                prop_assert_eq!(out.dtype(), decision.dtype);
                prop_assert!(case.request.copy != CopyRule::Always);
                prop_assert!(decision.writable || caps.read_only);
            }
            (Ok(out), Verdict::Copy) => {
                prop_assert!(!out.overlaps(&source).may());
                prop_assert_eq!(out.nbytes(), decision.bytes_allocated);
                prop_assert_eq!((out.dtype(), out.shape()), (decision.dtype, source.shape()));
                prop_assert_eq!(out.layout().first_not_compact(decision.order), None);
                prop_assert_eq!(out.is_writable(), decision.writable);
                prop_assert!(out.traits().contains(Traits::IS_COPIED));
                prop_assert_eq!(out.data_ptr().addr() % 256, 0);
                prop_assert!(case.request.copy != CopyRule::Never);
            }
            (other, verdict) => prop_assert!(false, "{:?} for {:?}", other, verdict),
        }
        // A target is never given what its row says it cannot take.
        if let Ok(out) = &result {
            prop_assert!(caps.dtypes.contains(out.dtype()));
            prop_assert!(caps.read_only || out.is_writable());
            if caps.strides != freehold::StrideRule::Any {
                prop_assert!(out.layout().first_negative().is_none());
            }
            if case.request.writable == Some(true) {
                prop_assert!(out.is_writable());
            }
        }
        drop((result, source));
        prop_assert!(rt.ledger().live().is_empty());
    }
}

#[test]
fn what_shares_plainly_is_what_people_hand_over() {
    let layout = |shape: &[i64], strides: &[i64]| {
        let case = Case {
            dtype: DType::F32,
            shape: shape.into(),
            strides: strides.into(),
            traits: Traits::empty(),
            request: Request::share(),
            target: 0,
            offset: 0,
        };
        let tensor = tensor(&case, &Runtime::new(Level::Off));
        shares_plainly(&tensor.desc(), &Caps::TORCH, DeviceSet::ALL).is_some()
    };
    for (shape, strides) in
        [(&[2, 3][..], &[3, 1][..]), (&[], &[]), (&[4], &[2]), (&[2, 1, 3], &[6, 77, 2]), (&[2, 2], &[8, 1])]
    {
        assert!(layout(shape, strides), "{shape:?} {strides:?}");
    }
    for (shape, strides) in [(&[2, 3][..], &[0, 1][..]), (&[3], &[-1]), (&[2, 3], &[2, 1])] {
        assert!(!layout(shape, strides), "{shape:?} {strides:?}");
    }
}

#[test]
fn a12_a17_a19_a_cast_and_a_layout_are_one_pass() {
    let t = Tensor::from_vec((0..6).map(f64::from).collect(), &[2, 3]).expect("valid");
    let rt = Runtime::global();
    let mark = rt.ledger().stats();
    let out =
        convert(&t, &Request::convert().dtype(DType::F32).order(Order::F), &Caps::TORCH, &Policy::DEFAULT).expect("ok");
    assert_eq!((out.strides(), out.dtype()), (&[1i64, 2][..], DType::F32));
    assert_eq!(out.view::<f32>().expect("f32").to_vec(), [0., 1., 2., 3., 4., 5.]);
    drop(mark);
}

#[test]
fn a15_ca02_names_how_many_and_the_first() {
    let t = Tensor::from_vec(vec![1i64, (1 << 40) + 5, 3], &[3]).expect("valid");
    let request = Request::convert().dtype(DType::I32);
    let error = convert(&t, &request, &Caps::TORCH, &Policy::DEFAULT).expect_err("does not fit");
    assert_eq!(error.code(), Code::CA02);
    if !cfg!(miri) {
        insta::assert_snapshot!("ca02_values", error);
    }
    let out = convert(&t, &request.on_loss(OnLoss::Allow), &Caps::TORCH, &Policy::DEFAULT).expect("allowed");
    assert_eq!(out.view::<i32>().expect("i32").to_vec(), [1, i32::MAX, 3]);
}

#[test]
fn me01_no_memory_is_an_error() {
    let rt = Runtime::new(Level::Records);
    let limited = freehold::device::Limit::new(freehold::device::HostMemory, 64);
    rt.register_resource(std::sync::Arc::new(limited));
    let error = Tensor::zeros(DType::F64, &[100], &rt).expect_err("over the limit");
    assert!(error.is_out_of_memory());
    if !cfg!(miri) {
        insta::assert_snapshot!("me01", error);
    }
    assert!(rt.ledger().live().is_empty());
}

#[test]
fn a39_a46_a_write_under_a_frozen_loan_is_found() {
    let rt = Runtime::new(Level::Records);
    let mut owned = vec![1.0f32, 2.0, 3.0];
    let raw = RawTensor {
        data: owned.as_mut_ptr().cast(),
        shape: &[3],
        strides: None,
        dtype: DType::F32,
        device: Device::CPU,
        owner: Owner::Borrowed,
    };
    let options = ImportOptions { runtime: rt.clone(), framework: Label::intern("torch"), ..ImportOptions::default() };
    // SAFETY: `owned` outlives the tensor.
    let t = unsafe { Tensor::from_raw(raw, &options) }.expect("valid");
    let data = t.data_ptr().cast::<f32>();
    for write in [false, true] {
        let lent = convert(&t, &Request::share().freeze(), &Caps::NUMPY, &Policy::DEFAULT).expect("shared");
        assert!(!lent.is_writable(), "only the owner could have written");
        if write {
            // SAFETY: the owner writes to its own memory, which is what a frozen loan forbids.
            unsafe { data.write(9.0) };
        }
        drop(lent);
        let hazards = rt.ledger().hazards();
        assert_eq!(hazards.iter().filter(|h| h.code == Code::AL01).count(), usize::from(write));
    }
}
