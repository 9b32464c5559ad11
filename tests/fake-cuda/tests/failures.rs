//! Failures on request, the log, and drivers that lack functions.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ffi::{CStr, CString};

use common::{Control, Cuda, start};
use freehold_fake_cuda::control;

#[test]
fn the_nth_call_fails_once_and_does_nothing() {
    let (control, cuda, _) = start();
    control.fail_at(2, 999);
    let device = cuda.alloc(16);
    let mut second = 0;
    assert_eq!((status!(cuda, cuMemAlloc_v2(&raw mut second, 16)), second), (999, 0));
    assert_eq!(control.live().blocks, 1);
    ok!(cuda, cuMemFree_v2(device));
    control.fail_function("cuMemFree_v2", 2, 700);
    let (a, b) = (cuda.alloc(16), cuda.alloc(16));
    ok!(cuda, cuMemFree_v2(a));
    assert_eq!((status!(cuda, cuMemFree_v2(b)), control.live().blocks), (700, 1));
    ok!(cuda, cuMemFree_v2(b));
    control.fail_after("cuMemFree_v2", 1, 719);
    let c = cuda.alloc(16);
    assert_eq!((status!(cuda, cuMemFree_v2(c)), control.live().blocks), (719, 0), "done, and reported");
    control.fail_at(50, 1);
    assert_eq!((control.live().failures_left, control.forget_failures(), control.forget_failures()), (1, 1, 0));
}

#[test]
fn calls_are_counted_and_written_down() {
    let (control, cuda, _) = start();
    control.reset();
    let stream = cuda.stream();
    let device = cuda.alloc(16);
    control.fail_function("cuMemsetD8Async", 1, 2);
    assert_eq!(status!(cuda, cuMemsetD8Async(device, 1, 16, stream)), 2);
    let (driver, address) = (&cuda, stream.addr());
    std::thread::scope(|scope| {
        scope.spawn(move || ok!(driver, cuStreamSynchronize(std::ptr::without_provenance_mut(address))));
    });
    assert_eq!((control.calls(), control.calls_of("cuMemAlloc_v2"), control.calls_of("cuInit")), (4, 1, 0));
    let log = control.log();
    let lines: Vec<&str> = log.lines().collect();
    let stream = format!("{stream:p}");
    assert!(lines[0].starts_with("1 thread=1 context=0 cuStreamCreate place=0x") && lines[0].ends_with("flags=1 -> 0"));
    let expected = format!(
        "3 thread=1 context=0 cuMemsetD8Async start={device:#x} byte=1 count=16 stream={stream} -> 2 (injected)"
    );
    assert_eq!(lines[2], expected);
    assert!(lines[3].starts_with("4 thread=") && lines[3].contains("context=none cuStreamSynchronize"), "{}", lines[3]);
    assert_ne!(lines[3].split(' ').nth(1), Some("thread=1"));
    control.clear_log();
    control.set_quiet(true);
    cuda.alloc(16);
    assert_eq!((control.log().as_str(), control.calls()), ("", 1), "counted, not written");
}

#[test]
fn a_copy_without_functions_is_another_driver() {
    let path = control::without(&std::env::temp_dir(), &["cuMemAllocAsync", "cuMemcpyBatchAsync"]);
    let old = Control::open(&path);
    for (name, there) in [("cuMemAllocAsync", false), ("cuMemcpyBatchAsync", false), ("cuMemFreeAsync", true)] {
        // SAFETY: only looked up.
        let found = unsafe { old.library().get::<*const ()>(name) };
        assert_eq!(found.is_ok(), there, "{name}");
    }
    old.set_version(11010);
    let (control, cuda, _) = start();
    let mut version = 0;
    ok!(cuda, cuDriverGetVersion(&raw mut version));
    assert_eq!((version, old.calls(), control.live().retained), (12080, 0, 1), "each has a state of its own");
    std::fs::remove_file(path).expect("a file of ours");
}

#[test]
fn the_driver_writes_copies_of_itself_for_other_languages() {
    let control = Control::built();
    let path = std::env::temp_dir().join(format!("fake-cuda-c-{}.so", std::process::id()));
    let path = CString::new(path.to_str().expect("text")).expect("no NUL");
    // SAFETY: the signature is that of `controls`.
    let write = unsafe {
        let name = "fake_cuda_write_without";
        *control.library().get::<unsafe extern "C" fn(*const i8, *const i8) -> i32>(name).expect("there")
    };
    // SAFETY: C strings.
    let write = |names: &CStr| unsafe { write(path.as_ptr(), names.as_ptr()) };
    assert_eq!([c"cuInit,cuMemPoolTrimTo", c"no"].map(write), [0, 1]);
    let old = Control::open(path.to_str().expect("text"));
    // SAFETY: only looked up.
    assert!(unsafe { old.library().get::<*const ()>("cuInit") }.is_err());
    std::fs::remove_file(path.to_str().expect("text")).expect("a file of ours");
    let _ = Cuda::of(control);
}
