//! The CUDA driver of the tests, as freehold-device loads it.

#![cfg(all(target_os = "linux", not(miri)))]

use freehold_device::cuda::{Context, Driver, MemoryKind, pointer};
use freehold_fake_cuda::control::{self, Control};

#[test]
fn the_driver_of_the_tests_loads_by_its_path() {
    // SAFETY: this workspace's own driver, which behaves as `cuda.h` says.
    let driver = unsafe { Driver::load(control::path()) }.expect("the driver loads");
    assert_eq!(driver.devices[1].name, "Fake GPU 1");
    assert!(driver.api().pools.is_some() && driver.api().batch.is_some() && driver.api().stream_ids.is_some());
    let driver: &'static Driver = Box::leak(Box::new(driver));
    assert!(!Context::is_active(driver, 0).expect("device 0"));
    let context = Context::on(driver, 0).expect("device 0");
    assert_eq!(Control::built().live().retained, 1);
    let (free, total) = context.memory_info().expect("a context");
    assert!(free == total && total as u64 == driver.devices[0].total_memory);
    let host = [0_u8; 8];
    let found = pointer(driver, host.as_ptr().addr() as u64).expect("a question");
    assert_eq!((found.kind, found.ordinal), (MemoryKind::Unregistered, -1));
}

#[test]
fn a_driver_that_lacks_functions_lacks_the_group_or_is_refused() {
    let folder = std::env::temp_dir();
    let old = control::without(&folder, &["cuMemcpyBatchAsync", "cuStreamGetId"]);
    // SAFETY: as above.
    let driver = unsafe { Driver::load(&old) }.expect("what is missing is optional");
    assert!(driver.api().pools.is_some() && driver.api().batch.is_none() && driver.api().stream_ids.is_none());
    let bad = control::without(&folder, &["cuEventRecord"]);
    // SAFETY: as above.
    let why = unsafe { Driver::load(&bad) }.expect_err("events are not optional");
    assert!(why.to_string().ends_with("it lacks cuEventRecord"), "{why}");
    for file in [old, bad] {
        std::fs::remove_file(file).expect("a file of ours");
    }
}
