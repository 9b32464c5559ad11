//! What a subscriber of `tracing` hears: a span per step, the event that says how it came out, and no more.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use freehold::{
    Asked, Caps, DType, Dialect, ExportOptions, Label, Order, Policy, Request, Runtime, Tensor, decide, execute,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

/// Writes down what it hears, indented by the spans around it.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(String, usize)>>);

impl Heard {
    fn line(&self, text: &str) {
        let (all, depth) = &mut *self.0.lock().expect("no panic");
        writeln!(all, "{}{text}", "  ".repeat(*depth)).expect("a string");
    }

    fn text(&self) -> String {
        self.0.lock().expect("no panic").0.clone()
    }
}

/// The fields as `name=value`, with ids as `#`: they differ from run to run.
#[derive(Default)]
struct Fields(String, String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0 = format!("{value:?}"),
            "holder" | "parent" => write!(self.1, " {}=#", field.name()).expect("a string"),
            name => write!(self.1, " {name}={value:?}").expect("a string"),
        }
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "freehold"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.line(&format!("[{}]{}", span.metadata().name(), fields.1));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.line(&format!("{} {}{}", event.metadata().level(), fields.0, fields.1));
    }

    fn enter(&self, _: &Id) {
        self.0.lock().expect("no panic").1 += 1;
    }

    fn exit(&self, _: &Id) {
        self.0.lock().expect("no panic").1 -= 1;
    }
}

fn listened(run: impl FnOnce()) -> String {
    let heard = Heard::default();
    subscriber::with_default(heard.clone(), run);
    heard.text()
}

fn lent(to: &str) -> ExportOptions<'static> {
    ExportOptions { consumer: Label::intern(to), site: Label::intern("train.py:3 in step"), ..Default::default() }
}

#[test]
#[cfg_attr(miri, ignore = "insta starts cargo")]
fn a_span_per_step_and_the_event_in_it() {
    let text = listened(|| {
        let options = freehold::ImportOptions {
            runtime: Runtime::new(freehold::ledger::Level::Records),
            framework: Label::NUMPY,
            site: Label::intern("load.py:7 in load"),
            ..Default::default()
        };
        let ours = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], &[2, 2]).expect("memory");
        let raw = ours.to_versioned(&lent("numpy")).expect("plain").into_raw();
        // SAFETY: a capsule that nobody else has.
        let t = unsafe { Tensor::from_versioned(raw, &options) }.expect("valid");
        let request = Request { dtype: Some(DType::F64), order: Order::C, ..Request::convert() };
        let (caps, policy) = (&Caps::TORCH, Policy::default());
        let decision = decide(&t.desc(), &request, caps, &policy);
        let asked = Asked::new(t.desc(), &request, caps, &policy, Dialect::Rust);
        let copy = execute(&t, &decision, &asked, Label::intern("train.py:2 in step")).expect("a copy");
        let out = copy.to_versioned(&lent("torch")).expect("plain");
        drop(copy);
        // The deleter of the last holder.
        drop(out);
        drop(t);
    });
    insta::assert_snapshot!(text);
}

#[test]
#[cfg_attr(miri, ignore = "insta starts cargo")]
fn a_refused_capsule_is_in_the_span_of_its_import() {
    let text = listened(|| {
        let t = Tensor::from_vec(vec![0.0f32, 1.0], &[2]).expect("memory");
        let (mut shape, mut view) = ([-2_i64], t.as_dltensor());
        view.shape = shape.as_mut_ptr();
        let options =
            freehold::ImportOptions { framework: Label::C, site: Label::intern("load.c:5"), ..Default::default() };
        let nobody = freehold::Owner::Callback { context: std::ptr::null_mut(), drop: None };
        // SAFETY: nothing but the struct and its shape is read.
        unsafe { Tensor::from_dltensor(&raw const view, nobody, &options) }.expect_err("a negative length");
    });
    insta::assert_snapshot!(text);
}

#[test]
fn a_listener_that_panics_loses_no_memory() {
    struct Loud;
    impl Subscriber for Loud {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            assert_ne!(span.metadata().name(), "freehold.release", "on purpose");
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    let runtime = Runtime::new(freehold::ledger::Level::Records);
    let t = Tensor::zeros(DType::F32, &[4], &runtime).expect("memory");
    let out = t.to_versioned(&lent("torch")).expect("plain");
    drop(t);
    subscriber::with_default(Loud, || drop(out));
    assert_eq!(runtime.ledger().stats().live.holders, 0, "both went");
    assert_eq!(runtime.ledger().counted(freehold::ledger::Counter::PanicsCaught), 1);
}
