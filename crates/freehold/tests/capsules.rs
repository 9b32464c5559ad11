//! Capsules walk in and out: ownership, versions, flags, hostile fields. Rows X09, X11, X13, A17.

use std::any::Any;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use freehold::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor, device_to, dtype_to};
use freehold::{
    Caps, Code, DType, Device, DeviceKind, ExportOptions, ImportOptions, Label, Owner, Policy, RawTensor, Request,
    Runtime, Tensor, Traits, convert, ledger::Level,
};

/// Keeps a value for ever where Miri's leak check finds it.
fn keep<T: Send + Sync + 'static>(value: T) -> &'static T {
    static KEPT: Mutex<Vec<&'static (dyn Any + Send + Sync)>> = Mutex::new(Vec::new());
    let kept: &'static T = Box::leak(Box::new(value));
    KEPT.lock().expect("no panic holds it").push(kept);
    kept
}

/// A pointer to values that a capsule may name as its shape or strides; nobody writes through it.
fn dims<const N: usize>(values: [i64; N]) -> *mut i64 {
    keep(values).as_ptr().cast_mut()
}

/// A foreign producer: counts its deleter calls.
struct Producer {
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
    data: Vec<f32>,
    released: AtomicUsize,
}

impl Producer {
    fn new(shape: &[i64], strides: Option<&[i64]>) -> &'static Producer {
        let n = shape.iter().product::<i64>().max(0) as usize;
        keep(Producer {
            shape: shape.to_vec(),
            strides: strides.map(<[i64]>::to_vec),
            data: (0..n).map(|i| i as f32).collect(),
            released: AtomicUsize::new(0),
        })
    }

    fn tensor(&self) -> DLTensor {
        DLTensor {
            data: self.data.as_ptr().cast_mut().cast(),
            device: device_to(Device::CPU),
            ndim: self.shape.len() as i32,
            dtype: dtype_to(DType::F32),
            shape: self.shape.as_ptr().cast_mut(),
            strides: self.strides.as_ref().map_or(std::ptr::null_mut(), |s| s.as_ptr().cast_mut()),
            byte_offset: 0,
        }
    }

    fn versioned(&'static self, change: impl FnOnce(&mut DLManagedTensorVersioned)) -> *mut DLManagedTensorVersioned {
        unsafe extern "C" fn deleter(m: *mut DLManagedTensorVersioned) {
            // SAFETY: the test made the pointer with `Box::into_raw` and its context is a leaked `Producer`.
            unsafe {
                (*(*m).manager_ctx.cast::<Producer>()).released.fetch_add(1, Ordering::SeqCst);
                drop(Box::from_raw(m));
            }
        }
        // SAFETY: all fields are written below or valid as zero (a flags word and a version).
        let mut m: DLManagedTensorVersioned = unsafe { std::mem::zeroed() };
        m.version = DLPackVersion { major: 1, minor: 3 };
        m.manager_ctx = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        m.deleter = Some(deleter);
        m.dl_tensor = self.tensor();
        change(&mut m);
        Box::into_raw(Box::new(m))
    }

    fn legacy(&'static self) -> *mut DLManagedTensor {
        unsafe extern "C" fn deleter(m: *mut DLManagedTensor) {
            // SAFETY: as above.
            unsafe {
                (*(*m).manager_ctx.cast::<Producer>()).released.fetch_add(1, Ordering::SeqCst);
                drop(Box::from_raw(m));
            }
        }
        Box::into_raw(Box::new(DLManagedTensor {
            dl_tensor: self.tensor(),
            manager_ctx: std::ptr::from_ref(self).cast_mut().cast::<c_void>(),
            deleter: Some(deleter),
        }))
    }

    fn released(&self) -> usize {
        self.released.load(Ordering::SeqCst)
    }
}

fn options(runtime: &Runtime) -> ImportOptions {
    ImportOptions { runtime: runtime.clone(), framework: Label::intern("test"), ..ImportOptions::default() }
}

fn runtime() -> Runtime {
    Runtime::new(Level::Records)
}

#[test]
fn x11_both_versions_come_in_and_are_released_once() {
    let rt = runtime();
    for strides in [None, Some(&[3i64, 1][..])] {
        let p = Producer::new(&[2, 3], strides);
        // SAFETY: the producer's capsules are valid.
        let (a, b) = unsafe {
            (
                Tensor::from_versioned(p.versioned(|_| {}), &options(&rt)).expect("valid"),
                Tensor::from_legacy(p.legacy(), &options(&rt)).expect("valid"),
            )
        };
        assert_eq!((a.strides(), b.strides()), (&[3i64, 1][..], &[3i64, 1][..]));
        assert_eq!(a.view::<f32>().expect("f32").to_vec(), [0., 1., 2., 3., 4., 5.]);
        assert!(b.traits().contains(Traits::LEGACY));
        let c = a.clone();
        drop((a, b));
        assert_eq!(p.released(), 1);
        drop(c);
        assert_eq!(p.released(), 2);
    }
    assert!(rt.ledger().live().is_empty());
}

#[test]
fn x11_unknown_major_runs_the_deleter_and_reads_nothing_else() {
    let p = Producer::new(&[2], None);
    let bad = p.versioned(|m| {
        m.version = DLPackVersion { major: 2, minor: 0 };
        // Reading any of these would crash.
        m.dl_tensor.shape = std::ptr::without_provenance_mut(8);
        m.dl_tensor.ndim = 7;
    });
    // SAFETY: an unknown major is released without another read.
    let error = unsafe { Tensor::from_versioned(bad, &ImportOptions::default()) }.expect_err("unknown major");
    assert_eq!((error.code(), p.released()), (Code::VE01, 1));
    if !cfg!(miri) {
        insta::assert_snapshot!("ve01", error);
    }
}

#[test]
fn hostile_fields_are_named_and_the_caller_still_owns_the_capsule() {
    type Change = fn(&mut DLManagedTensorVersioned);
    let cases: &[(&str, Change)] = &[
        ("ndim", |m| m.dl_tensor.ndim = -1),
        ("ndim", |m| m.dl_tensor.ndim = 65),
        ("shape", |m| m.dl_tensor.shape = std::ptr::null_mut()),
        ("shape[0]", |m| m.dl_tensor.shape = dims([-3i64, 1])),
        ("shape[1]", |m| m.dl_tensor.shape = dims([1i64 << 62, 8])),
        ("strides[1]", |m| m.dl_tensor.strides = dims([i64::MAX, 8])),
        ("data", |m| m.dl_tensor.data = std::ptr::null_mut()),
        ("dtype.lanes", |m| m.dl_tensor.dtype.lanes = 0),
        ("dtype.bits", |m| m.dl_tensor.dtype.bits = 0),
        ("dtype.code", |m| m.dl_tensor.dtype = dtype_to(DType { code: 18, bits: 16, lanes: 1 })),
        ("device.device_type", |m| m.dl_tensor.device = device_to(Device::new(DeviceKind(77), 0))),
        ("device.device_id", |m| m.dl_tensor.device = device_to(Device::new(DeviceKind::CUDA, -1))),
        ("byte_offset", |m| m.dl_tensor.byte_offset = u64::MAX),
    ];
    for (field, change) in cases {
        let p = Producer::new(&[2, 3], Some(&[3, 1]));
        let raw = p.versioned(change);
        // SAFETY: the fields that would be followed are valid or NULL.
        let error = unsafe { Tensor::from_versioned(raw, &ImportOptions::default()) }.expect_err(field);
        assert_eq!(error.code(), Code::CP02, "{error}");
        assert!(error.to_string().contains(&format!("{field} is")), "{field}: {error}");
        assert_eq!(p.released(), 0, "{field}");
        // SAFETY: the caller still owns it.
        unsafe { (*raw).deleter.expect("set")(raw) };
        assert_eq!(p.released(), 1);
    }
    // SAFETY: NULL and misaligned pointers are refused before they are read.
    unsafe {
        assert_eq!(
            Tensor::from_versioned(std::ptr::null_mut(), &ImportOptions::default()).unwrap_err().code(),
            Code::AR01
        );
        let odd = std::ptr::without_provenance_mut(4097);
        assert_eq!(Tensor::from_legacy(odd, &ImportOptions::default()).unwrap_err().code(), Code::AR01);
    }
}

#[test]
fn lenient_where_dlpack_is_newer_minor_unknown_flags_null_deleter() {
    let rt = runtime();
    let p = Producer::new(&[2], None);
    let raw = p.versioned(|m| {
        m.version.minor = 99;
        m.deleter = None;
        m.manager_ctx = std::ptr::null_mut();
        // SAFETY: the flags word is a u64 at this place; an unknown bit is a valid value of it.
        unsafe { (&raw mut m.flags).cast::<u64>().write(1 << 40 | dlpack::FLAG_READ_ONLY) };
    });
    // SAFETY: the capsule is valid.
    let t = unsafe { Tensor::from_versioned(raw, &options(&rt)) }.expect("valid");
    assert!(!t.is_writable());
    drop(t);
    assert!(rt.ledger().live().is_empty());
    // SAFETY: a NULL deleter leaves the struct with its producer.
    drop(unsafe { Box::from_raw(raw) });
}

#[test]
fn x09_scalars_empty_tensors_and_odd_size_one_strides() {
    let rt = runtime();
    for (shape, strides) in
        [(&[][..], None), (&[0, 3], None), (&[2, 0], Some(&[0i64, 0][..])), (&[1, 2], Some(&[777, 1]))]
    {
        let p = Producer::new(shape, strides);
        let raw = p.versioned(|m| {
            if shape.contains(&0) {
                m.dl_tensor.data = std::ptr::null_mut();
            }
            if shape.is_empty() {
                m.dl_tensor.shape = std::ptr::null_mut();
            }
        });
        // SAFETY: the capsule is valid.
        let t = unsafe { Tensor::from_versioned(raw, &options(&rt)) }.expect("valid");
        assert!(t.layout().is_c_contiguous());
        let out = t.to_versioned(&ExportOptions::default()).expect("describable").into_raw();
        // SAFETY: ours, and unreleased.
        unsafe {
            let dl = &(*out).dl_tensor;
            assert!(!dl.strides.is_null() && !(*out).manager_ctx.is_null() && (*out).deleter.is_some());
            assert_eq!(dl.data.is_null(), shape.contains(&0));
            (*out).deleter.expect("set")(out);
        }
        drop(t);
        assert_eq!(p.released(), 1);
    }
    assert!(rt.ledger().live().is_empty());
}

#[test]
fn byte_offset_is_honoured_in_and_folded_out() {
    let rt = runtime();
    let p = Producer::new(&[6], None);
    let raw = p.versioned(|m| {
        m.dl_tensor.byte_offset = 8;
        m.dl_tensor.shape = dims([4i64]);
    });
    // SAFETY: elements 2..6 are inside the producer's data.
    let t = unsafe { Tensor::from_versioned(raw, &options(&rt)) }.expect("valid");
    assert_eq!(t.view::<f32>().expect("f32").to_vec(), [2., 3., 4., 5.]);
    let out = t.to_legacy(&ExportOptions::default()).expect("writable").into_raw();
    // SAFETY: ours, and unreleased.
    unsafe {
        assert_eq!((*out).dl_tensor.byte_offset, 0);
        assert_eq!((*out).dl_tensor.data.addr(), p.data.as_ptr().addr() + 8);
        (*out).deleter.expect("set")(out);
    }
}

#[test]
fn flags_are_true_and_read_only_never_leaves_through_a_legacy_capsule() {
    let rt = runtime();
    let t = Tensor::from_vec(vec![1.0f32, 2.0], &[2]).expect("valid").read_only();
    let error = t.to_legacy(&ExportOptions::default()).err().expect("read-only");
    assert_eq!(error.code(), Code::RO01);
    let out =
        t.to_versioned(&ExportOptions { max_version: (1, 0), ..ExportOptions::default() }).expect("ok").into_raw();
    // SAFETY: ours, and unreleased.
    unsafe {
        assert_eq!(dlpack::flags_of(&*out), dlpack::FLAG_READ_ONLY);
        assert_eq!(((*out).version.major, (*out).version.minor), (1, 0));
        (*out).deleter.expect("set")(out);
    }
    // A17: a copy says that it is one.
    let copy = convert(&t, &Request::copy(), &Caps::TORCH, &Policy::DEFAULT).expect("copied");
    let out = copy.to_versioned(&ExportOptions::default()).expect("ok").into_raw();
    // SAFETY: as above.
    unsafe {
        assert_eq!(dlpack::flags_of(&*out), dlpack::FLAG_IS_COPIED);
        assert_eq!((*out).dl_tensor.data.addr() % 256, 0);
        (*out).deleter.expect("set")(out);
    }
    drop(rt);
}

#[test]
fn x13_the_deleter_runs_on_another_thread_after_the_tensor_is_gone() {
    let rt = runtime();
    let p = Producer::new(&[2], None);
    // SAFETY: the capsule is valid.
    let t = unsafe { Tensor::from_versioned(p.versioned(|_| {}), &options(&rt)) }.expect("valid");
    let capsule = t.to_versioned(&ExportOptions::default()).expect("ok");
    drop(t);
    assert_eq!(p.released(), 0);
    std::thread::spawn(move || drop(capsule)).join().expect("no panic");
    assert_eq!(p.released(), 1);
    assert!(rt.ledger().live().is_empty());
}

#[test]
fn x13_a_panicking_owner_does_not_cross_the_deleter() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("owner's drop");
        }
    }
    let rt = runtime();
    let mut data = [1.0f32; 2];
    let raw = RawTensor {
        data: data.as_mut_ptr().cast(),
        shape: &[2],
        strides: None,
        dtype: DType::F32,
        device: Device::CPU,
        owner: Owner::Value(Box::new(Bomb)),
    };
    // SAFETY: `data` outlives the tensor.
    let t = unsafe { Tensor::from_raw(raw, &options(&rt)) }.expect("valid");
    let out = t.to_versioned(&ExportOptions::default()).expect("ok").into_raw();
    drop(t);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // SAFETY: ours, and unreleased.
    unsafe { (*out).deleter.expect("set")(out) };
    std::panic::set_hook(hook);
    assert!(rt.ledger().live().is_empty());
}

#[test]
fn consumers_may_write_to_their_struct() {
    // nanobind writes strides into the producer's struct; our own metadata must not follow it.
    let t = Tensor::from_vec(vec![0u8; 6], &[2, 3]).expect("valid");
    let out = t.to_versioned(&ExportOptions::default()).expect("ok").into_raw();
    // SAFETY: ours, and unreleased.
    unsafe {
        *(*out).dl_tensor.strides = 99;
        *(*out).dl_tensor.shape = 99;
        (*out).dl_tensor.ndim = 1;
        assert_eq!((t.shape(), t.strides()), (&[2i64, 3][..], &[3i64, 1][..]));
        (*out).deleter.expect("set")(out);
    }
}
