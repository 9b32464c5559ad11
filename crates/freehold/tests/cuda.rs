//! The boundary with memory of a CUDA device, on the driver of tests/fake-cuda: device memory that the host cannot touch, streams
//! that run late.
#![cfg(all(target_os = "linux", not(miri)))]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use freehold::device::cuda::{self, Context, StreamRef};
use freehold::device::{Buffer, Stream, default_resource};
use freehold::{
    Asked, Caps, Code, DType, Device, DeviceKind, Dialect, Error, ImportOptions, Label, OnLoss, Order, Owner, Policy,
    RawTensor, Request, Runtime, Sync, SyncPolicy, Tensor, Traits, Verdict, convert, decide, execute,
};
use freehold_fake_cuda::control::{self, Control};
use freehold_ledger::Level;

const GPU: Device = Device::new(DeviceKind::CUDA, 0);
const GPU1: Device = Device::new(DeviceKind::CUDA, 1);
const PINNED: Device = Device::new(DeviceKind::CUDA_HOST, 0);
const MANAGED: Device = Device::new(DeviceKind::CUDA_MANAGED, 0);

/// The driver of this process: nextest gives each test one of its own.
fn driver() -> (Control, &'static Context) {
    let path = control::path();
    // SAFETY: the variable is read when the driver is first looked for, which comes after.
    unsafe { std::env::set_var(cuda::LIBRARY_VARIABLE, &path) };
    let context = Context::of(0).expect("the tests' driver has devices");
    (Control::open(&path), context)
}

/// Row-major numbers from 0, of a runtime with a ledger of its own.
fn numbers(shape: &[i64], runtime: &Runtime) -> Tensor {
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
    let data = values.as_ptr().cast_mut().cast();
    let raw = RawTensor {
        data,
        shape,
        strides: None,
        dtype: DType::F32,
        device: Device::CPU,
        owner: Owner::Value(Box::new(values)),
    };
    let options = ImportOptions { runtime: runtime.clone(), ..ImportOptions::default() };
    // SAFETY: the vector is as long as the shape, and lives in the owner.
    unsafe { Tensor::from_raw(raw, &options) }.expect("valid")
}

fn go(tensor: &Tensor, request: &Request, caps: &Caps) -> Result<Tensor, Error> {
    let policy = tensor.runtime().policy_for(request, Some(tensor.device()));
    convert(tensor, request, caps, &policy)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let host = go(tensor, &Request::convert().device(Device::CPU).dtype(DType::F32).order(Order::C), &Caps::FREEHOLD);
    host.expect("to the host").view::<f32>().expect("host memory").to_vec()
}

/// A16, A30, A42: there and back, cast and laid out on the way; the ledger knows where everything came from.
#[test]
fn a_tensor_goes_to_the_device_and_comes_back() {
    let (control, _) = driver();
    let runtime = Runtime::new(Level::Records);
    let source = numbers(&[40, 30], &runtime);
    let policy = runtime.policy_for(&Request::convert().device(GPU), Some(Device::CPU));
    let request = Request::convert().device(GPU).dtype(DType::BF16);
    let decision = decide(&source.desc(), &request, &Caps::FREEHOLD, &policy);
    assert_eq!(decision.to_string(), "copy (cast, device) 2400 B: CA01, DV01");
    let road = freehold::road(&source, &decision).expect("a device is involved");
    assert!(road.ends_with("2400 bytes over the link"), "{road}");
    let there = go(&source, &request, &Caps::FREEHOLD).expect("a copy");
    assert_eq!((there.device(), there.dtype(), there.is_writable()), (GPU, DType::BF16, true));
    assert!(there.stream().is_some());
    let back = go(&there, &Request::convert().dtype(DType::F32), &Caps::NUMPY).expect("back");
    assert_eq!(back.device(), Device::CPU);
    let rounded: Vec<f32> = (0..1200).map(|i| half::bf16::from_f32(i as f32).to_f32()).collect();
    assert_eq!(values(&back), rounded);
    // A42: no alias, and the edge says copy.
    assert!(!there.overlaps(&source).may() && !back.overlaps(&there).may());
    let stats = runtime.ledger().stats();
    assert_eq!(stats.live.holders, 3, "source, device, host");
    drop((there, back, source));
    cuda::flush_releases();
    assert_eq!(runtime.ledger().stats().live.holders, 0);
    control.drain();
    assert_eq!(control.live().pool_used, 0, "the device has its memory back");
}

/// A28, B10: shares only what is there, and says what would be copied.
#[test]
fn device_memory_is_never_shared_with_the_host() {
    let (_control, _) = driver();
    let runtime = Runtime::new(Level::Records);
    let there = go(&numbers(&[3], &runtime), &Request::convert().device(GPU), &Caps::FREEHOLD).expect("a copy");
    let error = go(&there, &Request::share(), &Caps::NUMPY).expect_err("another device");
    assert_eq!(error.code(), Code::DV01);
    let text = error.to_string();
    assert!(text.contains("cuda:0 -> cpu") && text.contains("12 B"), "{text}");
    let request = Request::convert().device(Device::new(DeviceKind::CUDA, 7));
    assert_eq!(go(&there, &request, &Caps::FREEHOLD).expect_err("no such device").code(), Code::DV02);
    // The same device is a share.
    let same = go(&there, &Request::share().device(GPU), &Caps::TORCH).expect("a share");
    assert_eq!(same.data_ptr(), there.data_ptr());
}

/// B20: what makes the host wait is said, and can be forbidden.
#[test]
fn waiting_for_a_device_is_said_and_can_be_forbidden() {
    let (_control, _) = driver();
    let runtime = Runtime::new(Level::Records);
    let source = numbers(&[3], &runtime);
    let there = go(&source, &Request::convert().device(GPU), &Caps::FREEHOLD).expect("a copy");
    let policy = Policy { sync: SyncPolicy::Error, ..runtime.policy_for(&Request::convert(), Some(GPU)) };
    let sync = |tensor: &Tensor, request: &Request, caps: &Caps| {
        let decision = decide(&tensor.desc(), request, caps, &policy);
        (decision.verdict, decision.code(), decision.sync)
    };
    assert_eq!(sync(&there, &Request::convert(), &Caps::NUMPY), (Verdict::Reject, Some(Code::PO01), Sync::Host));
    let up = policy.look(&Request::convert().device(GPU), Some(Device::CPU));
    let decision = decide(&source.desc(), &Request::convert().device(GPU), &Caps::TORCH, &up);
    assert_eq!((decision.verdict, decision.sync), (Verdict::Copy, Sync::None));
    let share = Request { stream: Some(Stream(2)), ..Request::share() };
    assert_eq!(sync(&there, &share, &Caps::TORCH), (Verdict::Share, None, Sync::Event));
}

/// A buffer of the tests' own on a device, imported as a foreign producer's would be.
fn foreign(
    buffer: &Buffer,
    says: Device,
    shape: &[i64],
    options: &ImportOptions,
    owner: Owner,
) -> Result<Tensor, Error> {
    let raw = RawTensor { data: buffer.as_ptr(), shape, strides: None, dtype: DType::F32, device: says, owner };
    // SAFETY: the buffer is as long as the shape, and outlives the tensor.
    unsafe { Tensor::from_raw(raw, options) }
}

fn room(device: Device, bytes: usize) -> Buffer {
    let resource = default_resource(device).expect("there is memory of the device");
    Buffer::new(&resource, bytes, 256, Stream::NONE).expect("memory")
}

/// DV03: a capsule that says one device and points to another.
#[test]
fn an_address_of_another_device_is_refused() {
    let (_control, _) = driver();
    let options = ImportOptions::default();
    let cases = [(Device::CPU, GPU), (GPU1, GPU), (GPU, GPU1), (PINNED, GPU)];
    for (real, says) in cases {
        let buffer = room(real, 64);
        let error = foreign(&buffer, says, &[4], &options, Owner::Borrowed).expect_err("the driver knows better");
        assert_eq!(error.code(), Code::DV03, "{error}");
        assert!(error.to_string().contains(&format!("the capsule says {says}")), "{error}");
    }
    for (real, says) in [(GPU, GPU), (GPU1, GPU1), (MANAGED, MANAGED), (MANAGED, GPU), (PINNED, PINNED)] {
        let buffer = room(real, 64);
        foreign(&buffer, says, &[4], &options, Owner::Borrowed).expect("true");
    }
    // Nothing is asked of a tensor without elements.
    foreign(&room(Device::CPU, 64), GPU, &[0], &options, Owner::Borrowed).expect("no address");
}

/// The array API's stream numbers.
#[test]
fn stream_numbers_are_those_of_dlpack() {
    let (_control, context) = driver();
    let buffer = room(GPU, 64);
    let import = |stream| {
        let options = ImportOptions { stream, ..ImportOptions::default() };
        foreign(&buffer, GPU, &[4], &options, Owner::Borrowed)
    };
    let handle = context.new_stream().expect("a stream").number();
    for stream in [None, Some(Stream::NONE), Some(Stream(1)), Some(Stream(2)), Some(handle)] {
        let tensor = import(stream).expect("a stream");
        for use_on in [None, Some(Stream::NONE), Some(Stream(1)), Some(Stream(2)), Some(handle)] {
            tensor.use_on(use_on).expect("a stream");
        }
        assert_eq!(tensor.use_on(Some(Stream(0))).expect_err("ambiguous").code(), Code::AR01);
    }
    for bad in [0, -2, i64::MIN] {
        assert_eq!(import(Some(Stream(bad))).expect_err("no stream").code(), Code::AR01, "{bad}");
    }
}

static GIVEN_BACK: AtomicU32 = AtomicU32::new(0);

unsafe fn count(_: *mut std::ffi::c_void) {
    GIVEN_BACK.fetch_add(1, Ordering::SeqCst);
}

fn counted() -> Owner {
    Owner::Raw { context: std::ptr::null_mut(), drop: count }
}

/// The edge that DLPack does not have: memory goes back when what uses it is done, and not before.
#[test]
fn memory_is_given_back_after_its_uses() {
    let (control, context) = driver();
    let buffer = room(GPU, 64);
    let consumer = context.new_stream().expect("a stream");
    let tensor = foreign(&buffer, GPU, &[4], &ImportOptions::default(), counted()).expect("valid");
    tensor.use_on(Some(consumer.number())).expect("a stream");
    control.hold_stream(consumer.raw(), true);
    queue_work(context, consumer, &buffer);
    drop(tensor);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(GIVEN_BACK.load(Ordering::SeqCst), 0, "the consumer's work still runs");
    assert_eq!(cuda::release_statistics().waiting, 1);
    control.hold_stream(consumer.raw(), false);
    cuda::flush_releases();
    assert_eq!(GIVEN_BACK.load(Ordering::SeqCst), 1);

    // Where the producer's stream is known, it waits instead, and the memory is given back at once.
    let home = context.new_stream().expect("a stream");
    let options = ImportOptions { home: Some(home.number()), ..ImportOptions::default() };
    let tensor = foreign(&buffer, GPU, &[4], &options, counted()).expect("valid");
    tensor.use_on(Some(consumer.number())).expect("a stream");
    control.hold_stream(consumer.raw(), true);
    queue_work(context, consumer, &buffer);
    drop(tensor);
    assert_eq!(GIVEN_BACK.load(Ordering::SeqCst), 2);
    let after = cuda::Event::recorded(context, home).expect("an event");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(after.is_done(), Ok(false), "what the producer does next waits for the consumer");
    control.hold_stream(consumer.raw(), false);
    after.synchronize().expect("done");
}

fn queue_work(context: &'static Context, stream: StreamRef, buffer: &Buffer) {
    // SAFETY: the buffer is of the device, and lives until the stream is waited for.
    unsafe { cuda::zero(context, buffer.as_ptr().addr() as u64, 64, stream) }.expect("queued");
}

/// The other way: a consumer's stream does not run before the producer's.
#[test]
fn a_consumer_sees_what_the_producer_has_queued() {
    let (control, context) = driver();
    let runtime = Runtime::new(Level::Records);
    let producer = context.new_stream().expect("a stream");
    let buffer = room(GPU, 4000);
    control.set_delay(Duration::from_millis(3));
    // SAFETY: the buffer is of the device, and lives to the end.
    unsafe { cuda::zero(context, buffer.as_ptr().addr() as u64, 4000, producer) }.expect("queued");
    let options = ImportOptions { runtime, stream: Some(producer.number()), ..ImportOptions::default() };
    let tensor = foreign(&buffer, GPU, &[1000], &options, Owner::Borrowed).expect("valid");
    // To the host, to another stream, and through a copy on another stream.
    assert_eq!(values(&tensor), vec![0.0; 1000]);
    let other = context.new_stream().expect("a stream");
    // SAFETY: as above.
    unsafe { cuda::zero(context, buffer.as_ptr().addr() as u64, 4000, producer) }.expect("queued");
    let request = Request { stream: Some(other.number()), ..Request::copy() };
    let copy = go(&tensor, &request, &Caps::FREEHOLD).expect("a copy");
    assert_eq!(copy.stream(), Some(other.number()));
    assert_eq!(values(&copy), vec![0.0; 1000]);
    control.set_delay(Duration::ZERO);
}

/// SY01: what would have to wait is refused while the stream is captured, and the capture lives.
#[test]
fn a_capture_is_not_broken() {
    let (control, context) = driver();
    let runtime = Runtime::new(Level::Records);
    let stream = context.new_stream().expect("a stream");
    let buffer = room(GPU, 4000);
    // Work of the captured stream fills it.
    let options = ImportOptions { runtime: runtime.clone(), stream: Some(stream.number()), ..ImportOptions::default() };
    let there = foreign(&buffer, GPU, &[1000], &options, Owner::Borrowed).expect("valid");
    let capture = Capture::begin(&control, stream);
    for (tensor, device) in [(&there, Device::CPU), (&numbers(&[1000], &runtime), GPU)] {
        let request = Request { stream: Some(stream.number()), ..Request::convert().device(device) };
        let error = go(tensor, &request, &Caps::FREEHOLD).expect_err("it would wait");
        assert_eq!(error.code(), Code::SY01, "{error}");
    }
    capture.end();
}

/// A capture of a stream, by the driver's own functions.
struct Capture<'a>(&'a Control, StreamRef);

impl<'a> Capture<'a> {
    fn begin(control: &'a Control, stream: StreamRef) -> Capture<'a> {
        type Begin = unsafe extern "C" fn(*mut std::ffi::c_void, u32) -> i32;
        // SAFETY: the function has this signature in cuda.h.
        let begin = unsafe { control.library().get::<Begin>(b"cuStreamBeginCapture_v2\0") }.expect("there");
        // SAFETY: the stream lives. Mode 2 is relaxed.
        assert_eq!(unsafe { begin(stream.raw(), 2) }, 0);
        Capture(control, stream)
    }

    fn end(self) {
        type End = unsafe extern "C" fn(*mut std::ffi::c_void, *mut *mut std::ffi::c_void) -> i32;
        let mut graph = std::ptr::null_mut();
        // SAFETY: the function has this signature in cuda.h.
        let end = unsafe { self.0.library().get::<End>(b"cuStreamEndCapture\0") }.expect("there");
        // SAFETY: the stream lives, and the place is ours.
        assert_eq!(unsafe { end(self.1.raw(), &mut graph) }, 0, "the capture was not invalidated");
    }
}

/// A30: page-locked and managed memory is the host's too, without a copy.
#[test]
fn pinned_and_managed_memory_is_shared_with_the_host() {
    let (_control, context) = driver();
    let options = ImportOptions::default();
    let pinned = room(PINNED, 64);
    let tensor = foreign(&pinned, PINNED, &[4], &options, Owner::Borrowed).expect("valid");
    let shared = go(&tensor, &Request::share(), &Caps::NUMPY).expect("host memory by another name");
    assert!(shared.device().kind.is_host());
    assert_eq!(shared.data_ptr(), tensor.data_ptr());

    let managed = room(MANAGED, 64);
    queue_work(context, StreamRef::LEGACY, &managed);
    let tensor = foreign(&managed, MANAGED, &[4], &options, Owner::Borrowed).expect("valid");
    let policy = Policy::DEFAULT.look(&Request::share(), Some(MANAGED));
    let decision = decide(&tensor.desc(), &Request::share(), &Caps::NUMPY, &policy);
    if policy.managed_on_host {
        assert_eq!((decision.verdict, decision.sync), (Verdict::Share, Sync::Host));
        let request = Request::share();
        let asked = Asked::new(tensor.desc(), &request, &Caps::NUMPY, &policy, Dialect::Rust);
        let shared = execute(&tensor, &decision, &asked, Label::NONE).expect("a share");
        // The host was made to wait for what was queued.
        assert_eq!(shared.view::<f32>().expect("host memory").to_vec(), [0.0; 4]);
    } else {
        assert_eq!(decision.code(), Some(Code::DV01));
    }
    // And it is memory of its device.
    let device = decide(&tensor.desc(), &Request::share().device(GPU), &Caps::TORCH, &policy);
    assert_eq!(device.verdict, Verdict::Share);
}

/// CA02 on the device says what the host says.
#[test]
fn losses_on_the_device_are_told_as_on_the_host() {
    let (_control, _) = driver();
    let runtime = Runtime::new(Level::Records);
    let source = numbers(&[700], &runtime);
    let there = go(&source, &Request::convert().device(GPU), &Caps::FREEHOLD).expect("a copy");
    let request = Request::convert().dtype(DType::U8);
    let (here, on_device) = (
        go(&source, &request, &Caps::FREEHOLD),
        go(&there, &Request { device: Some(GPU), ..request }, &Caps::FREEHOLD),
    );
    let (here, on_device) = (here.expect_err("a loss"), on_device.expect_err("a loss"));
    assert_eq!((here.code(), on_device.code()), (Code::CA02, Code::CA02));
    let line = |error: &Error| error.to_string().lines().nth(1).map(str::to_owned);
    assert_eq!(line(&here), line(&on_device));
    let request = Request { on_loss: OnLoss::Allow, device: Some(GPU), ..request };
    let allowed = go(&there, &request, &Caps::FREEHOLD).expect("saturates");
    assert_eq!(values(&allowed)[699], 255.0);
    assert_eq!(allowed.traits() & Traits::READ_ONLY, Traits::empty());
}

/// Every call of the driver fails once: the error is an error, the ledger ends empty, the next call works.
#[test]
fn every_call_of_the_driver_may_fail() {
    let (control, context) = driver();
    let runtime = Runtime::new(Level::Records);
    let source = numbers(&[300, 200], &runtime);
    let there = go(&source, &Request::convert().device(GPU), &Caps::FREEHOLD).expect("a copy");
    let requests = [
        (&source, Request::convert().device(GPU), Caps::FREEHOLD),
        (&there, Request::convert(), Caps::NUMPY),
        (&there, Request::copy().order(Order::F).dtype(DType::F16), Caps::FREEHOLD),
        (&there, Request { stream: Some(Stream(2)), ..Request::share() }, Caps::TORCH),
    ];
    for (i, (tensor, request, caps)) in requests.iter().enumerate() {
        drop(go(tensor, request, caps).expect("nothing fails yet"));
        let mut failed = 0;
        for n in 1..200 {
            control.fail_at(n, 700);
            let result = go(tensor, request, caps);
            let reached = control.forget_failures() == 0;
            if let Err(error) = &result {
                failed += 1;
                assert!([Code::DV02, Code::ME01, Code::SY01].contains(&error.code()), "{i} {n}: {error}");
            }
            drop(result);
            if !reached {
                break;
            }
            let again = go(tensor, request, caps);
            drop(again.unwrap_or_else(|error| panic!("request {i}, after call {n} had failed: {error}")));
        }
        assert!(failed > 0, "request {i}");
    }
    drop((source, there));
    cuda::flush_releases();
    assert_eq!(runtime.ledger().stats().live.holders, 0);
    let _ = context;
}
