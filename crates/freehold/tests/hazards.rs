//! What the ledger says of consumers and producers that break the rules: codes, holders, call sites (X12, X13, X25, A39).

use std::ffi::c_void;

use freehold::dlpack::DLManagedTensorVersioned;
use freehold::ledger::{Derivation, HazardReport, HolderFlags, Level, Role};
use freehold::{
    AliasPolicy, Asked, Caps, Code, DType, Device, Dialect, ExportOptions, ImportOptions, Label, Owner, Policy,
    RawTensor, ReadonlyPolicy, Request, Runtime, Tensor, Traits, Verdict, convert, decide, execute,
};

fn options(runtime: &Runtime, traits: Traits) -> ImportOptions {
    ImportOptions {
        runtime: runtime.clone(),
        framework: Label::intern("numpy"),
        site: Label::intern("producer.py:3"),
        traits,
        ..ImportOptions::default()
    }
}

fn over(values: &mut [f32], runtime: &Runtime, traits: Traits) -> Tensor {
    let raw = RawTensor {
        data: values.as_mut_ptr().cast(),
        shape: &[values.len() as i64],
        strides: None,
        dtype: DType::F32,
        device: Device::CPU,
        owner: Owner::Borrowed,
    };
    // SAFETY: each test keeps its values longer than the tensor.
    unsafe { Tensor::from_raw(raw, &options(runtime, traits)) }.expect("valid")
}

fn lent<'a>(consumer: &str, site: &str) -> ExportOptions<'a> {
    ExportOptions { consumer: Label::intern(consumer), site: Label::intern(site), ..ExportOptions::default() }
}

fn export(t: &Tensor, consumer: &str, site: &str) -> *mut DLManagedTensorVersioned {
    t.to_versioned(&lent(consumer, site)).expect("describable").into_raw()
}

/// What a consumer does when it is done.
fn give_back(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: exported by `export`, and not given back before.
    unsafe { (*managed).deleter.expect("never NULL")(managed) }
}

fn who(hazard: &HazardReport) -> Vec<(&str, &str)> {
    hazard.holders.iter().map(|h| (h.framework, h.site)).collect()
}

const BOTH: [(&str, &str); 2] = [("numpy", "producer.py:3"), ("torch", "train.py:9")];

#[test]
fn al01_read_only_memory_that_changes_while_it_is_lent() {
    for level in [Level::Records, Level::Sites, Level::Canaries] {
        let rt = Runtime::new(level);
        let mut values = [1.0f32, 2.0];
        let t = over(&mut values, &rt, Traits::READ_ONLY);
        let data = t.data_ptr().cast::<f32>();
        for write in [false, true] {
            let out = export(&t, "torch", "train.py:9");
            if write {
                // SAFETY: the owner writes where it promised not to.
                unsafe { data.write(9.0) };
            }
            give_back(out);
        }
        let hazards = rt.ledger().hazards();
        if level < Level::Canaries {
            assert!(hazards.is_empty(), "watched at level 4 only");
            continue;
        }
        let [hazard] = &hazards[..] else { panic!("{hazards:?}") };
        assert_eq!((hazard.code, who(hazard)), (Code::AL01, BOTH.to_vec()));
        assert!(hazard.note.contains("changed while lent to torch"), "{}", hazard.note);
    }
}

#[test]
fn al01_a_frozen_loan_names_both_sides() {
    let rt = Runtime::new(Level::Sites);
    let mut values = [1.0f32, 2.0];
    let t = over(&mut values, &rt, Traits::empty());
    let request = Request::share().freeze();
    let decision = decide(&t.desc(), &request, &Caps::NUMPY, &Policy::DEFAULT);
    let asked = Asked::new(t.desc(), &request, &Caps::NUMPY, &Policy::DEFAULT, Dialect::Rust);
    let shared = execute(&t, &decision, &asked, Label::intern("train.py:8")).expect("shared");
    let out = export(&shared, "torch", "train.py:9");
    drop(shared);
    // SAFETY: the owner writes where it promised not to.
    unsafe { t.data_ptr().cast::<f32>().write(9.0) };
    give_back(out);
    let hazards = rt.ledger().hazards();
    assert_eq!(hazards.iter().map(who).collect::<Vec<_>>(), [BOTH.to_vec()]);
    assert!(rt.ledger().text_report().contains("(held by numpy  at producer.py:3, torch  at train.py:9)"));
}

#[test]
fn cp03_a_deleter_that_is_called_twice() {
    let rt = Runtime::new(Level::Canaries);
    let mut values = [1.0f32, 2.0];
    let t = over(&mut values, &rt, Traits::empty());
    let out = export(&t, "torch", "train.py:9");
    // SAFETY: exported above.
    let deleter = unsafe { (*out).deleter.expect("never NULL") };
    give_back(out);
    // SAFETY: the defect that is looked for. Nothing is read at the address.
    unsafe { deleter(out) };
    let hazards = rt.ledger().hazards();
    let [hazard] = &hazards[..] else { panic!("{hazards:?}") };
    assert_eq!((hazard.code, who(hazard)), (Code::CP03, BOTH.to_vec()));
    assert_eq!(hazard.note, "torch called a deleter twice");
    assert!(t.is_sole(), "the second call let go of nothing");
}

#[test]
fn cp03_a_pointer_that_is_no_export_of_ours() {
    let rt = Runtime::new(Level::Canaries);
    let mut values = [1.0f32, 2.0];
    let t = over(&mut values, &rt, Traits::empty());
    let out = export(&t, "torch", "train.py:9");
    // SAFETY: exported above.
    let deleter = unsafe { (*out).deleter.expect("never NULL") };
    let mut other = [0u64; 32];
    // SAFETY: the defect that is looked for. Nothing is read at the address.
    unsafe { deleter(other.as_mut_ptr().cast()) };
    give_back(out);
    let address = format!("{:#x}", other.as_ptr().addr());
    let hazards = Runtime::global().ledger().hazards();
    assert!(hazards.iter().any(|h| h.code == Code::CP03 && h.note.contains(&address)), "{hazards:?}");
    assert!(rt.ledger().hazards().is_empty() && t.is_sole());
}

#[test]
fn cp03_memory_of_ours_that_is_written_to_after_it_was_given_back() {
    let rt = Runtime::new(Level::Canaries);
    let t = Tensor::zeros(DType::F32, &[256], &rt).expect("memory");
    let data = t.data_ptr().cast::<f32>();
    let out = export(&t, "cutile", "kernel.py:7");
    drop(t);
    give_back(out);
    assert!(rt.ledger().hazards().is_empty() && rt.ledger().live().is_empty());
    // SAFETY: the defect that is looked for: a kernel that is still running. The memory is kept, so the write is to
    // memory that is still allocated.
    unsafe { data.add(3).write(7.0) };
    for _ in 0..2 {
        let hazards = rt.ledger().hazards();
        let [hazard] = &hazards[..] else { panic!("said once: {hazards:?}") };
        assert_eq!((hazard.code, who(hazard)), (Code::CP03, vec![("cutile", "kernel.py:7")]));
        assert!(hazard.note.contains("written at byte 12 of f32[256]"), "{}", hazard.note);
    }
    // What nobody writes to comes back clean: more than are kept at once.
    for _ in 0..if cfg!(miri) { 20 } else { 600 } {
        drop(Tensor::zeros(DType::F32, &[16], &rt).expect("memory"));
    }
    assert_eq!(rt.ledger().hazards().len(), 1);
}

#[test]
fn cp01_a_capsule_that_nobody_consumed() {
    for level in [Level::Records, Level::Sites] {
        let rt = Runtime::new(level);
        let mut values = [1.0f32, 2.0];
        let t = over(&mut values, &rt, Traits::empty());
        // SAFETY: exported here, and given up.
        unsafe { freehold::drop_unconsumed_versioned(export(&t, "torch", "train.py:9")) };
        assert_eq!(rt.ledger().counted(freehold::ledger::Counter::UnconsumedCapsules), 1);
        let hazards = rt.ledger().hazards();
        assert_eq!(hazards.len(), usize::from(level >= Level::Sites));
        assert!(hazards.iter().all(|h| h.code == Code::CP01 && who(h) == BOTH));
        assert!(t.is_sole() && rt.ledger().live()[0].holders.is_empty());
    }
}

#[test]
fn ro01_gr02_al03_what_a_policy_trusts_is_on_record() {
    let immutable = Caps { name: "jax", immutable: true, ..Caps::NUMPY };
    let readonly = Policy { readonly: ReadonlyPolicy::Trust, ..Policy::DEFAULT };
    let alias = Policy { alias: AliasPolicy::Trust, ..Policy::DEFAULT };
    for (traits, request, caps, policy, code) in [
        (Traits::READ_ONLY, Request::share(), Caps::TORCH, readonly, Code::RO01),
        (Traits::REQUIRES_GRAD, Request::share().detach().writable(true), Caps::NUMPY, readonly, Code::GR02),
        (Traits::empty(), Request::share(), immutable, alias, Code::AL03),
    ] {
        let rt = Runtime::new(Level::Sites);
        let mut values = [1.0f32, 2.0];
        let t = over(&mut values, &rt, traits);
        let decision = decide(&t.desc(), &request, &caps, &policy);
        assert_eq!((decision.verdict, decision.has(code)), (Verdict::Share, true), "{code:?}");
        let asked = Asked::new(t.desc(), &request, &caps, &policy, Dialect::Rust);
        let shared = execute(&t, &decision, &asked, Label::intern("train.py:9")).expect("shared");
        let hazards = rt.ledger().hazards();
        let [hazard] = &hazards[..] else { panic!("{hazards:?}") };
        assert_eq!((hazard.code, who(hazard)), (code, vec![BOTH[0], (caps.name, "train.py:9")]));
        drop(shared);
    }
}

#[test]
fn x25_an_export_that_comes_back_is_the_same_buffer() {
    for (level, legacy) in [(Level::Records, false), (Level::Records, true), (Level::Canaries, false)] {
        let rt = Runtime::new(level);
        let mut values = [1.0f32, 2.0];
        let t = over(&mut values, &rt, Traits::empty());
        let back = ImportOptions { framework: Label::intern("torch"), ..options(&rt, Traits::empty()) };
        let u = if legacy {
            let out = t.to_legacy(&lent("torch", "train.py:9")).expect("writable").into_raw();
            // SAFETY: exported above, and given up.
            unsafe { Tensor::from_legacy(out, &back) }
        } else {
            // SAFETY: exported here, and given up.
            unsafe { Tensor::from_versioned(export(&t, "torch", "train.py:9"), &back) }
        };
        let u = u.expect("valid");
        let live = rt.ledger().live();
        assert_eq!((live.len(), live[0].owner.as_ref().map(|o| o.framework)), (1, Some("numpy")));
        let chain = rt.ledger().chain(u.id());
        let links: Vec<_> = chain.iter().map(|l| (l.holder.framework, l.holder.role, l.derivation)).collect();
        let view = Some(Derivation::ViewOf);
        let hands = [("numpy", Role::Owner, None), ("torch", Role::Holder, view), ("torch", Role::Holder, view)];
        assert_eq!(links, hands);
        assert!(chain[1].holder.flags.contains(HolderFlags::CONSUMED), "it came back to a consumer");
        // The way on from there: a copy, and a cast, in memory of their own.
        for (dtype, derivation) in [(None, Derivation::CopyOf), (Some(DType::F64), Derivation::CastOf)] {
            let request = Request { dtype, ..Request::copy() };
            let copy = convert(&u, &request, &Caps::FREEHOLD, &Policy::DEFAULT).expect("copied");
            let chain = rt.ledger().chain(copy.id());
            assert_eq!((chain.len(), chain[3].derivation), (4, Some(derivation)));
            assert_ne!(chain[3].holder.buffer, chain[2].holder.buffer);
        }
        drop((t, u));
        assert!(rt.ledger().live().is_empty() && rt.ledger().hazards().is_empty());
    }
}

/// A producer whose deleter is somebody else's code, with a context like ours.
#[test]
fn x25_a_foreign_capsule_is_not_taken_for_ours() {
    unsafe extern "C" fn deleter(_: *mut DLManagedTensorVersioned) {}
    let rt = Runtime::new(Level::Records);
    let mut values = [1.0f32, 2.0];
    let t = over(&mut values, &rt, Traits::empty());
    let ours = export(&t, "torch", "");
    let mut shape = [2i64];
    let mut foreign = {
        // SAFETY: a plain struct that is copied; only `ours` is given back.
        let mut foreign = unsafe { ours.read() };
        foreign.deleter = Some(deleter);
        foreign.dl_tensor.shape = shape.as_mut_ptr();
        foreign.dl_tensor.strides = std::ptr::null_mut();
        foreign
    };
    foreign.manager_ctx = (&raw mut foreign).cast::<c_void>();
    // SAFETY: lives until the end of the test; its deleter frees nothing.
    let u = unsafe { Tensor::from_versioned(&raw mut foreign, &options(&rt, Traits::empty())) }.expect("valid");
    let chain = rt.ledger().chain(u.id());
    assert_eq!((chain.len(), chain[0].holder.role), (1, Role::Owner));
    assert_eq!(rt.ledger().live().len(), 1, "the same bytes are still one buffer");
    drop(u);
    give_back(ours);
}
