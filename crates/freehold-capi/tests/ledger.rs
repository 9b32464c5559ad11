//! What `fh_ledger_write` advises: in C, with names that the headers have.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::{ptr, slice};

use freehold::{Caps, Code, DType, Dialect, Policy, Request, Runtime, Steps, Tensor, Verdict, convert};
use freehold_capi as _;
use freehold_ledger::{Edge, HolderDesc, HolderFlags, HolderId, Label, Ledger, Level, Role, Sync};
use freehold_tensor::{Device, StrideUnit};

type Take = unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> i32;

const FH_FORMAT_JSON: i32 = 0;

// As the header declares it.
unsafe extern "C" {
    fn fh_ledger_write(
        runtime: *mut c_void,
        format: i32,
        path: *const c_char,
        write: Option<Take>,
        user: *mut c_void,
        error: *mut *mut c_void,
    ) -> i32;
}

unsafe extern "C" fn take(user: *mut c_void, bytes: *const c_char, len: usize) -> i32 {
    // SAFETY: `user` is the vector that the test passed, which nobody else uses meanwhile; the bytes live for the call.
    let (text, bytes) = unsafe { (&mut *user.cast::<Vec<u8>>(), slice::from_raw_parts(bytes.cast::<u8>(), len)) };
    text.extend_from_slice(bytes);
    0
}

/// The ledger of the process as a C program gets it.
fn written() -> String {
    let mut text: Vec<u8> = Vec::new();
    let user = (&raw mut text).cast();
    let (runtime, error) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: NULL is the runtime of the process; `take` is for this `user`, which outlives the call.
    let status = unsafe { fh_ledger_write(runtime, FH_FORMAT_JSON, ptr::null(), Some(take), user, error) };
    assert_eq!(status, 0);
    String::from_utf8(text).expect("JSON is UTF-8")
}

#[test]
fn a_c_program_gets_advice_in_c() {
    let global = Runtime::global();
    let source = Tensor::zeros(DType::F64, &[256], &global).expect("memory");
    let (cast, fresh) = (Request::convert().dtype(DType::F32), Request::copy());
    let copies = [cast, fresh].map(|request| convert(&source, &request, &Caps::FREEHOLD, &Policy::DEFAULT));
    assert!(copies.iter().all(Result::is_ok));
    let text = written();
    for advice in [
        "or ask without request.dtype\"",
        "request.copy = FH_COPY_IF_NEEDED shares instead of copying\"",
        "fh_tensor_release()",
    ] {
        assert!(text.contains(advice), "{advice}: {text}");
    }
    for foreign in ["fh.", "dtype=", "Request::", "with block"] {
        assert!(!text.contains(foreign), "{foreign}: {text}");
    }
    // The same ledger speaks Rust to Rust.
    assert!(global.ledger().snapshot().findings.copies.iter().any(|copies| copies.fix.contains("Request::convert()")));
}

/// Everything that is advised anywhere: copies for each reason, and views in each state.
fn advice() -> Vec<String> {
    let ledger = Ledger::new(Level::Records);
    let view = |i: u64, flags| HolderDesc {
        role: Role::Owner,
        framework: Label::NUMPY,
        site: Label::NONE,
        device: Device::CPU,
        address: i << 24,
        dtype: DType::F32,
        padded: false,
        unit: StrideUnit::Elements,
        shape: &[4],
        strides: &[1],
        alloc: Some((i << 24, 4 << 20)),
        flags,
    };
    let reasons = Code::ALL.iter().map(slice::from_ref).chain([&[][..]]);
    for (i, reasons) in (1..).zip(reasons) {
        for steps in [Steps::FRESH, Steps::LAYOUT] {
            let edge = Edge {
                from: HolderId::NONE,
                from_framework: Label::NUMPY,
                to: Label::TORCH,
                verdict: Verdict::Copy,
                steps,
                reasons,
                bytes: 16,
                sync: Sync::None,
            };
            ledger.open(&view(i, HolderFlags::empty()), Some(&edge));
        }
    }
    for (i, flags) in (100..).zip([HolderFlags::FROZEN, HolderFlags::EXPORTED]) {
        ledger.open(&view(i, flags), None);
    }
    let one = Ledger::new(Level::Records);
    one.open(&view(1, HolderFlags::empty()), None);
    let findings = [ledger, one].map(|ledger| ledger.snapshot().in_dialect(Dialect::C).findings);
    let fixes = |findings: &freehold_ledger::Findings| {
        let (copies, pinned, lent) = (&findings.copies, &findings.pinned, &findings.lent);
        let fixes = copies.iter().map(|found| &found.fix).chain(pinned.iter().map(|found| &found.fix));
        fixes.chain(lent.iter().map(|found| &found.fix)).cloned().collect::<Vec<_>>()
    };
    findings.iter().flat_map(fixes).collect()
}

#[test]
fn the_headers_have_every_name_that_is_advised() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include/freehold");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let headers = ["dlpack_abi.h", "base.h", "capsule.h", "decide.h", "ledger.h", "runtime.h", "tensor.h"].map(read);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<&str> = headers.iter().flat_map(|text| text.split(|c| !is_name(c))).collect();
    let mut checked = 0;
    for fix in advice() {
        for word in fix.split(|c| !is_name(c) && c != '.') {
            let field = word.split_once('.').filter(|(of, _)| ["request", "policy"].contains(of));
            let is_c = ["fh_", "FH_", "kDL", "DL"].iter().any(|prefix| word.starts_with(prefix));
            let Some(name) = field.map(|(_, name)| name).or(is_c.then_some(word)) else { continue };
            checked += 1;
            assert!(names.contains(&name), "{name} is not in the headers: {fix}");
        }
    }
    assert!(checked > 20, "{checked} names");
}
