//! The arguments of the verbs, as Python passes them.

use freehold::{CopyRule, DType, Device, Error, OnLoss, Order, Request, Stream};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::raise;
use crate::names::shown;
use crate::{device, dtype};

pub(crate) fn copy_rule(copy: Option<bool>) -> CopyRule {
    match copy {
        None => CopyRule::IfNeeded,
        Some(true) => CopyRule::Always,
        Some(false) => CopyRule::Never,
    }
}

pub(crate) fn optional<'py, T>(
    value: Option<&Bound<'py, PyAny>>,
    read: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    match value {
        Some(value) if !value.is_none() => read(value).map(Some),
        _ => Ok(None),
    }
}

/// A `stream=` argument: a number, or a framework's stream object (`__cuda_stream__`, or the handle as an attribute).
pub(crate) fn stream_argument(value: &Bound<'_, PyAny>) -> PyResult<Stream> {
    // CUDA's NULL is the legacy default stream, which DLPack calls 1.
    let of_handle = |handle: i64| if handle == 0 { Stream::LEGACY_DEFAULT } else { Stream(handle) };
    let wrong = |must: &str| raise(value.py(), Error::argument("stream", shown(value), must));
    if let Ok(number) = value.extract::<i64>() {
        return Ok(Stream(number));
    }
    let protocol = value.call_method0("__cuda_stream__").and_then(|pair| pair.extract::<(i64, i64)>());
    if let Ok((_version, handle)) = protocol {
        return Ok(of_handle(handle));
    }
    for attribute in ["cuda_stream", "ptr", "handle"] {
        if let Ok(handle) = value.getattr(attribute).and_then(|handle| handle.extract::<i64>()) {
            return Ok(of_handle(handle));
        }
    }
    Err(wrong("be an integer as in DLPack, or a framework's stream"))
}

fn word<T: Copy>(py: Python<'_>, name: &str, value: &str, known: &[(&str, T)], must: &str) -> PyResult<T> {
    known
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| raise(py, Error::argument(name, format!("{value:?}"), must)))
}

/// The arguments that convert, copy and plan have in common.
pub(crate) struct Wishes<'a, 'py> {
    pub dtype: Option<&'a Bound<'py, PyAny>>,
    pub device: Option<&'a Bound<'py, PyAny>>,
    pub order: Option<&'a Bound<'py, PyString>>,
    pub stream: Option<&'a Bound<'py, PyAny>>,
    pub on_loss: Option<&'a Bound<'py, PyString>>,
}

impl<'py> Wishes<'_, 'py> {
    #[inline]
    pub(crate) fn read(&self, py: Python<'py>) -> PyResult<Request> {
        let orders = [("C", Order::C), ("F", Order::F), ("any", Order::Any)];
        let losses = [("error", OnLoss::Error), ("allow", OnLoss::Allow), ("saturate", OnLoss::Saturate)];
        Ok(Request {
            dtype: optional::<DType>(self.dtype, dtype::argument)?,
            device: optional::<Device>(self.device, device::argument)?,
            order: match self.order {
                None => Order::Any,
                Some(order) => word(py, "order", order.to_str()?, &orders, "be \"C\", \"F\" or \"any\"")?,
            },
            stream: optional(self.stream, stream_argument)?,
            on_loss: match self.on_loss {
                None => OnLoss::Error,
                Some(on_loss) => {
                    word(py, "on_loss", on_loss.to_str()?, &losses, "be \"error\", \"allow\" or \"saturate\"")?
                }
            },
            ..Request::default()
        })
    }
}
