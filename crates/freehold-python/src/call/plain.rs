//! Calls that ask for nothing, by the shortest way.

use std::sync::OnceLock;

use freehold::{
    Caps, Code, DType, Decision, Device, DeviceSet, Label, Layout, Policy, Request, TensorDesc, Traits, decide,
    shares_plainly,
};
use pyo3::ffi;
use pyo3::prelude::*;

use super::{Call, given, pins};
use crate::source::{self, Ask, Fail, Imported, Kind, kind_of};
use crate::target::Target;
use crate::{gil, policy, site};

/// Carries out a call that asks for nothing, of a type that was asked before: the same steps as [`Call::run`], without its
/// room for more. `None` if nothing was done and the call must go the whole way; NULL with an exception set if it failed.
///
/// Called from outside PyO3's entries: where an object of PyO3's own may be dropped, they are entered first.
#[inline]
pub(crate) fn plainly<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    target: Target,
    never_copies: bool,
) -> Option<*mut ffi::PyObject> {
    gil::drain(py);
    if crate::ledger::has_news() {
        return None;
    }
    let kind = source::known(x)?;
    if target.keeps(kind) && matches!(policy::devices(py), Ok(DeviceSet::ALL)) {
        // Nothing changes hands, so there is nothing for the ledger either.
        return Some(x.clone().into_ptr());
    }
    let is_same = target.is_of(kind);
    let site = site::here(py);
    let ask = Ask { quiet: false, freeze: false, fill: None, stream: None, consumer: target, site };
    // Looked at where it is: moved, what was just written in two parts would be read as one, and waited for.
    let looked = source::look(x, kind, &ask);
    if let Some(Ok(Imported { tensor, built: false })) = &looked
        && !pins(tensor)
        && let Ok(devices) = policy::devices(py)
        && let Some(codes) = shares_plainly(&tensor.desc(), target.caps(py, tensor, None), devices)
    {
        if is_same {
            return Some(x.clone().into_ptr());
        }
        let Some(Ok(Imported { tensor, .. })) = looked else { return None };
        return Some(given(py, target.export(py, tensor, hinted(codes), site)));
    }
    Some(match looked {
        Some(imported) => as_it_comes(py, x, target, never_copies, imported),
        None => through_python(py, x, kind, target, never_copies, &ask),
    })
}

/// A plain call for a source that is imported through Python.
fn through_python<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    kind: Kind,
    target: Target,
    never_copies: bool,
    ask: &Ask<'_, 'py>,
) -> *mut ffi::PyObject {
    Python::attach(|_| {
        let request = if never_copies { Request::share() } else { Request::convert() };
        let imported = source::import(x, kind, ask);
        given(py, Call { x, target, request, fill: None }.go_on(py, kind, ask.site, imported))
    })
}

/// The rest of a call that was begun plainly and is not.
#[cold]
fn as_it_comes<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    target: Target,
    never_copies: bool,
    imported: Result<Imported, Fail>,
) -> *mut ffi::PyObject {
    Python::attach(|_| {
        let request = if never_copies { Request::share() } else { Request::convert() };
        let call = Call { x, target, request, fill: None };
        given(py, kind_of(x).and_then(|kind| call.go_on(py, kind, site::here(py), imported)))
    })
}

/// A decision with the hints of a plain share, for the ledger's edge; `None` where there are none.
#[inline]
pub(super) fn hinted(codes: &[Code]) -> Option<&'static Decision> {
    static HINTED: [OnceLock<Decision>; 3] = [const { OnceLock::new() }; 3];
    if codes.is_empty() {
        return None;
    }
    let (read_only, wide) = (codes.contains(&Code::RO02), codes.contains(&Code::HT01));
    let made = HINTED[usize::from(read_only) + usize::from(read_only && wide)].get_or_init(|| {
        let desc = TensorDesc {
            address: 0,
            device: Device::CPU,
            dtype: if wide { DType::F64 } else { DType::F32 },
            layout: Layout::new(&[], &[]),
            traits: if read_only { Traits::READ_ONLY } else { Traits::empty() },
            framework: Label::NUMPY,
        };
        decide(&desc, &Request::share(), &Caps { read_only: true, ..Caps::TORCH }, &Policy::DEFAULT)
    });
    debug_assert_eq!(made.codes().as_slice(), codes);
    Some(made)
}
