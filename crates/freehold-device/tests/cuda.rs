//! The driver probe, against no library, a foreign one, and a stand-in built from C.

// Miri opens no libraries, and the stand-in is built the way Unix builds them.
#![cfg(all(unix, not(miri)))]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use freehold_device::cuda::{self, Driver, Status, Unavailable, Version};
use freehold_device::{devices, is_present};
use freehold_tensor::{Device, DeviceKind};

/// A stand-in driver in a directory of its own, removed at the end. The library stays mapped.
struct Fake {
    directory: PathBuf,
}

impl Fake {
    /// Builds the stand-in, or says on the terminal that the test is skipped and gives `None`.
    fn build(test: &str, flags: &[&str]) -> Option<Fake> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("freehold-fake-cuda-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for temporary files");
        let fake = Fake { directory };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_libcuda.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut build = Command::new(&compiler);
        build.args(["-shared", "-fPIC", "-Wall", "-Werror"]).args(flags).arg("-o").arg(fake.path()).arg(source);
        match build.output() {
            Ok(done) if done.status.success() => Some(fake),
            Ok(done) => panic!("the stand-in does not compile: {}", String::from_utf8_lossy(&done.stderr)),
            Err(why) => {
                let text = format!("SKIP: {test}: no C compiler ({}: {why})", compiler.to_string_lossy());
                let forbidden = std::env::var_os("FREEHOLD_NO_SKIP").is_some_and(|value| !value.is_empty());
                assert!(!forbidden, "{text}");
                // Written to the stream itself: what a passing test prints is not shown otherwise.
                writeln!(std::io::stderr(), "{text}").expect("standard error is open");
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("libcuda-stand-in.so")
    }

    fn load(&self) -> Result<Driver, Unavailable> {
        // SAFETY: the stand-in has no initialisers, and its functions have the driver's signatures.
        unsafe { Driver::load(self.path()) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A directory left behind is no reason for a test to fail.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn no_library_gives_the_text_of_the_loader() {
    let path = "/nonexistent/libcuda-nowhere.so.1";
    // SAFETY: there is no such library.
    let why = unsafe { Driver::load(path) }.expect_err("no such library");
    let Unavailable::NoLibrary(text) = &why else { panic!("{why:?}") };
    assert_eq!(text.matches(path).count(), 1, "{text}");
    assert!(text.len() > path.len() + 10, "the loader says why: {text}");
    assert!(why.to_string().starts_with("the CUDA driver library could not be loaded: "));
    // A NUL in a path cannot reach the loader.
    // SAFETY: as above.
    let why = unsafe { Driver::load("libcuda\0.so") }.expect_err("not a path");
    assert!(matches!(&why, Unavailable::NoLibrary(text) if text.starts_with("libcuda\0.so: ")), "{why:?}");
}

#[test]
fn a_library_that_is_not_a_driver_names_what_it_lacks() {
    let Some(fake) = Fake::build("a_library_that_is_not_a_driver", &["-DWITHOUT_MEM"]) else { return };
    let why = fake.load().expect_err("two functions are missing");
    let Unavailable::MissingSymbol { library, symbols } = &why else { panic!("{why:?}") };
    assert_eq!(symbols, &["cuDeviceGetName", "cuDeviceTotalMem_v2"]);
    assert_eq!(Path::new(library), fake.path());
    assert!(why.to_string().ends_with("it lacks cuDeviceGetName, cuDeviceTotalMem_v2"), "{why}");
}

#[test]
fn devices_are_listed_with_name_and_memory() {
    let Some(fake) = Fake::build("devices_are_listed", &[]) else { return };
    let driver = fake.load().expect("the stand-in works");
    assert_eq!((driver.version, driver.version.to_string().as_str()), (Version(12080), "12.8"));
    let found: Vec<_> = driver.devices.iter().map(|device| (device.name.as_str(), device.total_memory)).collect();
    assert_eq!(found, [("Fake GPU 0", 16 << 30), ("Fake GPU 1", 32 << 30)]);
}

#[test]
fn failures_of_the_driver_are_values() {
    let cases: [(&[&str], Unavailable); 6] = [
        (&["-DINIT=34"], Unavailable::InitFailed(Status::STUB_LIBRARY)),
        (&["-DINIT=-12345"], Unavailable::InitFailed(Status(-12345))),
        (&["-DINIT=100"], Unavailable::NoDevice),
        (&["-DDEVICES=0"], Unavailable::NoDevice),
        (&["-DDEVICES=-1"], Unavailable::NoDevice),
        (&["-DQUERY=999"], Unavailable::QueryFailed { function: "cuDeviceTotalMem_v2", status: Status::UNKNOWN }),
    ];
    for (flags, expected) in cases {
        let Some(fake) = Fake::build("failures_of_the_driver", flags) else { return };
        assert_eq!(fake.load().expect_err("the stand-in fails"), expected, "{flags:?}");
    }
}

#[test]
fn a_name_that_does_not_end_is_cut() {
    let Some(fake) = Fake::build("a_name_that_does_not_end", &["-DLONG_NAME", "-DDEVICES=1"]) else { return };
    let driver = fake.load().expect("the stand-in works");
    assert_eq!(driver.devices[0].name, "x".repeat(255));
}

#[test]
fn the_probe_of_this_machine_is_remembered_and_agrees_with_the_lists() {
    let first = cuda::probe();
    let again = cuda::probe();
    match (first, again) {
        (Ok(first), Ok(again)) => assert!(std::ptr::eq(first, again)),
        (Err(first), Err(again)) => assert!(std::ptr::eq(first, again)),
        _ => panic!("two probes disagree: {first:?}, {again:?}"),
    }
    let cuda = first.map_or(0, |driver| driver.devices.len() as i32);
    assert_lists(cuda);
}

fn assert_lists(cuda: i32) {
    let all = devices();
    assert_eq!(all[0], Device::CPU);
    let expected: Vec<Device> = (0..cuda).map(|id| Device::new(DeviceKind::CUDA, id)).collect();
    assert_eq!(all[1..], expected);
    assert!(all.iter().copied().all(is_present));
    for kind in [DeviceKind::CUDA, DeviceKind::CUDA_HOST, DeviceKind::CUDA_MANAGED] {
        assert_eq!(is_present(Device::new(kind, 0)), cuda > 0);
        assert!(!is_present(Device::new(kind, cuda)) && !is_present(Device::new(kind, -1)));
    }
    for absent in [Device::new(DeviceKind::CPU, 1), Device::new(DeviceKind::ROCM, 0), Device::new(DeviceKind(99), 0)] {
        assert!(!is_present(absent));
    }
}

/// Set in the processes that `in_child` starts.
const CHILD: &str = "FREEHOLD_TEST_CHILD";

/// Runs `check` in a process of its own where the variable names `library`, because a process probes once.
///
/// The process is this program, told to run `test` alone; there the same call finds itself in the child.
fn in_child(test: &str, library: &Path, check: fn()) {
    if std::env::var_os(CHILD).is_some() {
        return check();
    }
    let this = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new(this);
    child.args(["--exact", test]).env(CHILD, "1").env(cuda::LIBRARY_VARIABLE, library);
    let child = child.output().expect("this program can be run");
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
fn the_variable_can_name_a_library_that_does_not_exist() {
    let path = Path::new("/nonexistent/libcuda.so.1");
    in_child("the_variable_can_name_a_library_that_does_not_exist", path, || {
        let why = cuda::probe().expect_err("the library does not exist");
        assert!(matches!(why, Unavailable::NoLibrary(text) if text.contains("/nonexistent/libcuda.so.1")), "{why:?}");
        assert_lists(0);
    });
}

#[test]
fn the_variable_can_name_a_driver() {
    let test = "the_variable_can_name_a_driver";
    let Some(fake) = Fake::build(test, &["-DDEVICES=3"]) else { return };
    in_child(test, &fake.path(), || {
        let driver = cuda::probe().expect("the stand-in works");
        assert_eq!(driver.devices[2].name, "Fake GPU 2");
        assert_lists(3);
    });
}
