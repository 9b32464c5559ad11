//! The tests of races, run with a driver that leaves undone what keeps their order: every one must fail.

use std::path::PathBuf;
use std::process::Command;

use freehold_device::cuda::LIBRARY_VARIABLE;

use crate::common::is_real;

/// The functions that tests in `races.rs` name, and how many tests each has.
const FORGOTTEN: [(&str, usize); 3] = [("cuStreamWaitEvent", 2), ("cuEventQuery", 2), ("cuEventSynchronize", 1)];

/// `cu_stream_wait_event`: how the tests that name the function begin.
fn prefix(function: &str) -> String {
    function.chars().flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain([c.to_ascii_lowercase()])).collect()
}

/// A library that forgets one function, before the driver of the tests.
fn build(function: &str) -> Option<PathBuf> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/gpu/forgetful.c");
    let library = std::env::temp_dir().join(format!("forgets-{function}-{}.so", std::process::id()));
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut compile = Command::new(compiler);
    compile.args(["-shared", "-fPIC", &format!("-DDROP_{function}")]).arg(source).arg("-Wl,--no-as-needed");
    match compile.arg(freehold_fake_cuda::control::path()).arg("-o").arg(&library).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(library)
        }
        Err(why) => {
            println!("SKIP: no C compiler: {why}");
            None
        }
    }
}

/// On a GPU, `run.py` of the bundle does the same with libraries that were built before.
#[test]
fn the_tests_of_races_fail_without_what_keeps_the_order() {
    if is_real() || std::env::var_os(LIBRARY_VARIABLE).is_some() {
        return;
    }
    let this = std::env::current_exe().expect("the path of this program");
    for (function, count) in FORGOTTEN {
        let Some(library) = build(function) else { return };
        let mut child = Command::new(&this);
        child.args([&format!("races::{}_", prefix(function)), "--test-threads=1"]).env(LIBRARY_VARIABLE, &library);
        let output = child.output().expect("this program can be run");
        std::fs::remove_file(&library).expect("a file of ours");
        let text = String::from_utf8_lossy(&output.stdout);
        let expected = format!("0 passed; {count} failed");
        assert!(text.contains(&expected), "with {function} forgotten, not {expected}:\n{text}");
    }
}
