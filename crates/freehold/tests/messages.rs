//! Every reason code's message, as a user reads it. One snapshot a code: read it before you accept it.
#![cfg(not(miri))] // No unsafe code is here, and snapshots need files.

use freehold::{
    Asked, Caps, Code, CopyRule, DType, Decision, Detail, Device, DeviceKind, Dialect, Error, FieldError, Label,
    Layout, Message, Order, Policy, ReadonlyPolicy, Reason, Request, SyncPolicy, TensorDesc, Traits, Verb, Verdict,
    decide,
};

struct Source {
    dtype: DType,
    shape: Vec<i64>,
    strides: Vec<i64>,
    framework: &'static str,
    traits: Traits,
    device: Device,
    address: u64,
}

impl Source {
    fn new(framework: &'static str, dtype: DType, shape: &[i64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for i in (0..shape.len().saturating_sub(1)).rev() {
            strides[i] = strides[i + 1] * shape[i + 1];
        }
        Self {
            dtype,
            shape: shape.to_vec(),
            strides,
            framework,
            traits: Traits::empty(),
            device: Device::CPU,
            address: 4096,
        }
    }

    fn traits(self, traits: Traits) -> Self {
        Self { traits, ..self }
    }

    fn strides(self, strides: &[i64]) -> Self {
        Self { strides: strides.to_vec(), ..self }
    }

    fn desc(&self) -> TensorDesc<'_> {
        TensorDesc {
            address: self.address,
            device: self.device,
            dtype: self.dtype,
            layout: Layout::new(&self.shape, &self.strides),
            traits: self.traits,
            framework: Label::intern(self.framework),
        }
    }
}

/// A policy on a machine with one CUDA device.
fn with_cuda() -> Policy {
    const HERE: &[Device] = &[Device::CPU, Device::new(DeviceKind::CUDA, 0)];
    Policy { available: HERE, ..Policy::DEFAULT }
}

const DIALECTS: [(&str, Dialect); 3] = [("", Dialect::Python), ("C: ", Dialect::C), ("Rust: ", Dialect::Rust)];

/// One message in each language; what is Python's in it must be nowhere in the others.
fn in_each(render: impl Fn(Dialect) -> Message) -> String {
    let mut text = String::new();
    for (name, dialect) in DIALECTS {
        let message = render(dialect).to_string();
        if dialect != Dialect::Python {
            for python in [
                "fh.",
                "=True",
                "=False",
                "=None",
                "dtype=",
                "order=",
                "writable=",
                "max_version",
                "t.cpu",
                "x.",
                "pip ",
            ] {
                assert!(!message.contains(python), "{python} in a message for {dialect:?}: {message}");
            }
        }
        text.push_str(&format!("{name}{message}\n\n"));
    }
    text
}

/// The message of a call, and the code that it must carry.
fn told(source: &Source, request: &Request, caps: &Caps, policy: &Policy, owner: Option<&str>, code: Code) -> String {
    let decision = decide(&source.desc(), request, caps, policy);
    assert_eq!(decision.code(), Some(code), "{decision}");
    in_each(|dialect| {
        let mut asked = Asked::new(source.desc(), request, caps, policy, dialect);
        // An adapter of Python names the owner as Python does.
        asked.owner = owner.filter(|_| dialect == Dialect::Python).map(str::to_owned);
        Message::of(&asked, &decision)
    })
}

/// The message of a refusal that an adapter makes. What the adapter itself says is in the adapter's language.
fn adapter(code: Code, verb: Verb, source: &str, caps: &Caps, detail: &str) -> String {
    let request = Request {
        copy: match verb {
            Verb::Share => CopyRule::Never,
            Verb::Convert => CopyRule::IfNeeded,
            Verb::Copy => CopyRule::Always,
        },
        ..Request::default()
    };
    in_each(|dialect| {
        let asked = Asked {
            verb,
            source: Some(source.to_owned()),
            desc: None,
            request: &request,
            caps,
            policy: &Policy::DEFAULT,
            owner: None,
            dialect,
        };
        // What to do is the adapter's to say, and only Python has one for dates.
        let detail = if dialect == Dialect::Python { detail } else { detail.split(": ").next().unwrap_or(detail) };
        Message::of(&asked, &Decision::reject(Reason::text(code, detail.to_owned())))
    })
}

macro_rules! snapshot {
    ($name:ident, $text:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!($text);
        }
    };
}

fn numpy3() -> Source {
    Source::new("numpy", DType::F64, &[3])
}

// A09, A10, X16: the refusal of a writable alias, and the line that solves it.
snapshot!(ro01_share_to_torch, {
    let owner = Some("numpy.ndarray (flags.writeable=False)");
    told(&numpy3().traits(Traits::READ_ONLY), &Request::share(), &Caps::TORCH, &Policy::DEFAULT, owner, Code::RO01)
});
snapshot!(ro01_writable_true, {
    let request = Request::share().writable(true);
    told(&numpy3().traits(Traits::READ_ONLY), &request, &Caps::NUMPY, &Policy::DEFAULT, None, Code::RO01)
});
snapshot!(ro01_policy_reject, {
    let policy = Policy { readonly: ReadonlyPolicy::Reject, ..Policy::DEFAULT };
    told(&numpy3().traits(Traits::READ_ONLY), &Request::convert(), &Caps::TORCH, &policy, None, Code::RO01)
});
snapshot!(ro01_writable_false_to_torch, {
    let request = Request::share().writable(false);
    told(&numpy3(), &request, &Caps::TORCH, &Policy::DEFAULT, None, Code::RO01)
});
snapshot!(ro02, {
    let owner = Some("numpy.ndarray (flags.writeable=False)");
    told(&numpy3().traits(Traits::READ_ONLY), &Request::share(), &Caps::NUMPY, &Policy::DEFAULT, owner, Code::RO02)
});
snapshot!(st01, {
    told(&numpy3().strides(&[-1]), &Request::share(), &Caps::TORCH, &Policy::DEFAULT, None, Code::ST01)
});
snapshot!(st02, {
    let compact = Caps { name: "jax", strides: freehold::StrideRule::Compact, ..Caps::NUMPY };
    told(&numpy3().strides(&[2]), &Request::share(), &compact, &Policy::DEFAULT, None, Code::ST02)
});
snapshot!(st03, {
    let source = numpy3().strides(&[9]).traits(Traits::BYTE_STRIDES);
    told(&source, &Request::share(), &Caps::TORCH, &Policy::DEFAULT, None, Code::ST03)
});
snapshot!(ly01, {
    let source = Source::new("numpy", DType::F32, &[2, 3]).strides(&[1, 2]);
    told(&source, &Request::share().order(Order::C), &Caps::TORCH, &Policy::DEFAULT, None, Code::LY01)
});
snapshot!(
    ly02,
    adapter(Code::LY02, Verb::Convert, "f32[3,3] torch sparse_coo", &Caps::NUMPY, "layout is torch.sparse_coo")
);
snapshot!(
    ly03,
    adapter(Code::LY03, Verb::Share, "f32[3] torch meta", &Caps::NUMPY, "device is meta: shapes without data")
);
snapshot!(ca01, {
    told(&numpy3(), &Request::share().dtype(DType::F32), &Caps::TORCH, &Policy::DEFAULT, None, Code::CA01)
});
snapshot!(ca02_complex_to_real, {
    let source = Source::new("numpy", DType::C64, &[3]);
    told(&source, &Request::convert().dtype(DType::F32), &Caps::TORCH, &Policy::DEFAULT, None, Code::CA02)
});
snapshot!(dt01, adapter(Code::DT01, Verb::Convert, "object[3] numpy", &Caps::TORCH, "3 of 3 elements are str"));
snapshot!(dt02_bf16_numpy, {
    let source = Source::new("torch", DType::BF16, &[2]);
    told(&source, &Request::convert(), &Caps::NUMPY, &Policy::DEFAULT, None, Code::DT02)
});
snapshot!(dt02_c32_numpy, {
    let source = Source::new("torch", DType::C32, &[2]);
    told(&source, &Request::convert(), &Caps::NUMPY, &Policy::DEFAULT, None, Code::DT02)
});
snapshot!(dt03, {
    adapter(
        Code::DT03,
        Verb::Convert,
        "datetime64[ns][3] numpy",
        &Caps::TORCH,
        "datetime64[ns]: x.view(\"int64\") keeps the count of ns",
    )
});
snapshot!(bo01, {
    told(&numpy3().traits(Traits::SWAPPED), &Request::share(), &Caps::TORCH, &Policy::DEFAULT, None, Code::BO01)
});
snapshot!(ag01, {
    let jax = Caps { name: "jax", alignment: 64, ..Caps::NUMPY };
    told(&Source { address: 4112, ..numpy3() }, &Request::share(), &jax, &Policy::DEFAULT, None, Code::AG01)
});
snapshot!(dv01, {
    let source = Source { device: Device::new(DeviceKind::CUDA, 0), ..Source::new("torch", DType::F32, &[2]) };
    told(&source, &Request::share(), &Caps::NUMPY, &with_cuda(), None, Code::DV01)
});
// B20: under this rule nobody waits for a device unseen.
snapshot!(po01_sync, {
    let source = Source { device: Device::new(DeviceKind::CUDA, 0), ..Source::new("torch", DType::F32, &[2]) };
    let policy = Policy { sync: SyncPolicy::Error, ..with_cuda() };
    told(&source, &Request::convert(), &Caps::NUMPY, &policy, None, Code::PO01)
});
// A28: the device is gone, or never was here.
snapshot!(dv01_source, {
    let source = Source { device: Device::new(DeviceKind::CUDA, 0), ..Source::new("torch", DType::F32, &[2]) };
    told(&source, &Request::convert(), &Caps::NUMPY, &Policy::DEFAULT, None, Code::DV01)
});
// A32: a request for a device that is not here.
snapshot!(dv02, {
    let request = Request::convert().device(Device::new(DeviceKind::CUDA, 0));
    told(&numpy3(), &request, &Caps::TORCH, &Policy::DEFAULT, None, Code::DV02)
});
snapshot!(
    dv03,
    adapter(
        Code::DV03,
        Verb::Share,
        "f32[2] capsule",
        &Caps::TORCH,
        "the capsule says cpu, __dlpack_device__ says cuda:0"
    )
);
snapshot!(
    sy01,
    adapter(
        Code::SY01,
        Verb::Share,
        "f32[2] torch cuda:0",
        &Caps::DLPACK,
        "producer stream 7 is not ordered before consumer stream 9"
    )
);
// A29, B21: both exits are named.
snapshot!(gr01, {
    let source = Source::new("torch", DType::F32, &[128, 10]).traits(Traits::REQUIRES_GRAD);
    told(&source, &Request::convert(), &Caps::NUMPY, &Policy::DEFAULT, None, Code::GR01)
});
snapshot!(gr02_writable, {
    let source = Source::new("torch", DType::F32, &[2]).traits(Traits::REQUIRES_GRAD);
    told(&source, &Request::share().detach().writable(true), &Caps::NUMPY, &Policy::DEFAULT, None, Code::GR02)
});
snapshot!(lz01_neg, {
    let source = Source::new("torch", DType::F32, &[2]).traits(Traits::NEG);
    told(&source, &Request::share(), &Caps::NUMPY, &Policy::DEFAULT, None, Code::LZ01)
});
snapshot!(lz01_conj, {
    let source = Source::new("torch", DType::C64, &[2]).traits(Traits::CONJ);
    told(&source, &Request::share(), &Caps::NUMPY, &Policy::DEFAULT, None, Code::LZ01)
});
snapshot!(nu01, adapter(Code::NU01, Verb::Convert, "f64[3] numpy.ma", &Caps::TORCH, "1 of 3 elements is masked"));
snapshot!(
    al01,
    adapter(Code::AL01, Verb::Share, "f32[3] torch cpu", &Caps::NUMPY, "buffer #7 changed while lent to numpy")
);
snapshot!(al02, {
    let source = Source::new("torch", DType::F32, &[3, 4]).strides(&[0, 1]);
    told(&source, &Request::share(), &Caps::NUMPY, &Policy::DEFAULT, None, Code::AL02)
});
snapshot!(al03, {
    let jax = Caps { name: "jax", immutable: true, ..Caps::NUMPY };
    told(&numpy3(), &Request::share(), &jax, &Policy::DEFAULT, None, Code::AL03)
});
snapshot!(po01_bytes, {
    let policy = Policy { max_copy_bytes: Some(0), ..Policy::DEFAULT };
    told(&numpy3(), &Request::copy(), &Caps::TORCH, &policy, None, Code::PO01)
});
snapshot!(po01_copies, {
    let policy = Policy { copies: freehold::CopiesPolicy::Error, ..Policy::DEFAULT };
    told(&numpy3().strides(&[-1]), &Request::convert(), &Caps::TORCH, &policy, None, Code::PO01)
});
snapshot!(ly04, {
    let flat = Caps { name: "paddle", max_ndim: 0, ..Caps::TORCH };
    told(&numpy3(), &Request::share(), &flat, &Policy::DEFAULT, None, Code::LY04)
});
snapshot!(ob02, told(&numpy3(), &Request::share(), &Caps::MLX, &Policy::DEFAULT, None, Code::OB02));
snapshot!(ca01_narrowed, told(&numpy3(), &Request::share(), &Caps::JAX, &Policy::DEFAULT, None, Code::CA01));
snapshot!(st02_column_major, {
    let source = Source::new("numpy", DType::F32, &[2, 3]).strides(&[1, 2]);
    told(&source, &Request::convert().order(Order::F), &Caps::TENSORFLOW, &Policy::DEFAULT, None, Code::ST02)
});
snapshot!(ro01_immutable, {
    let request = Request::convert().writable(true);
    told(&numpy3(), &request, &Caps::JAX_X64, &Policy::DEFAULT, None, Code::RO01)
});
snapshot!(
    cp01,
    adapter(Code::CP01, Verb::Convert, "PyCapsule", &Caps::FREEHOLD, "its name is used_dltensor_versioned")
);
snapshot!(cp02, {
    let field = Reason::new(Code::CP02, Detail::Field(FieldError::new("ndim", -1, "be at least 0")));
    let error = Error::capsule(FieldError::at("shape", 1, -3, "be at least 0"));
    format!("{error}\n{}", field.detail)
});
snapshot!(cp03, adapter(Code::CP03, Verb::Share, "f32[3] torch cpu", &Caps::NUMPY, "numpy called a deleter twice"));
snapshot!(ob01, adapter(Code::OB01, Verb::Share, "list", &Caps::TORCH, "a list owns no tensor memory"));
snapshot!(ht01, {
    let decision = decide(&numpy3().desc(), &Request::share(), &Caps::TORCH, &Policy::DEFAULT);
    assert_eq!((decision.verdict, decision.code()), (Verdict::Share, Some(Code::HT01)));
    told(&numpy3(), &Request::share(), &Caps::TORCH, &Policy::DEFAULT, None, Code::HT01)
});
snapshot!(ht02, adapter(Code::HT02, Verb::Share, "f32[20] torch cpu", &Caps::NUMPY, "view of 80 B pins 10 MB"));
snapshot!(ar01, Error::argument("alignment", 3, "be a power of two"));
snapshot!(ar01_not, Error::argument("shape", "NULL", "not be NULL when ndim > 0"));
snapshot!(in01, Error::internal("a panic was caught: index out of bounds"));

#[test]
fn every_code_has_a_snapshot() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let mut all = String::new();
    for entry in std::fs::read_dir(dir).expect("snapshots are committed").flatten() {
        all.push_str(&std::fs::read_to_string(entry.path()).expect("text"));
    }
    let missing: Vec<_> = Code::ALL.iter().filter(|c| !all.contains(&format!("[{c}]"))).collect();
    assert!(missing.is_empty(), "no message snapshot for {missing:?}");
}
