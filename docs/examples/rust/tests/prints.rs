//! The example prints what the file beside those of the other examples says. It runs with the tests of the crates, so that nothing
//! is compiled twice for it.

use std::process::Command;

#[test]
fn it_prints_what_is_expected() {
    let done = Command::new(env!("CARGO_BIN_EXE_freehold-example")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stdout), include_str!("../../../../tests/examples/expected/rust.txt"));
}
