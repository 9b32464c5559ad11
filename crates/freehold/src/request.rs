//! What the caller wants.

use crate::{DType, Device, OnLoss, Order, Stream};

/// Whether memory may be copied.
///
/// ```
/// use freehold::{CopyRule, Request};
///
/// let verbs = [Request::share(), Request::convert(), Request::copy()].map(|request| request.copy);
/// assert_eq!(verbs, [CopyRule::Never, CopyRule::IfNeeded, CopyRule::Always]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum CopyRule {
    /// Share or refuse (`copy=False`).
    Never,
    /// Share when it can, else copy (`copy=None`).
    #[default]
    IfNeeded,
    /// Always new memory (`copy=True`).
    Always,
}

/// What the caller wants of a handover.
///
/// ```
/// use freehold::{DType, Order, Request};
///
/// let rows = Request::convert().dtype(DType::F32).order(Order::C);
/// assert_eq!(Request { copy: freehold::CopyRule::Never, ..rows }, Request::share().dtype(DType::F32).order(Order::C));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Request {
    /// The element type; `None` keeps the source's.
    pub dtype: Option<DType>,
    /// The device; `None` keeps the source's where the target can be there.
    pub device: Option<Device>,
    /// The memory order.
    pub order: Order,
    /// The alignment of the first element in bytes, a power of two; 0 asks for none.
    pub alignment: u32,
    /// Whether memory may be copied.
    pub copy: CopyRule,
    /// Whether the result must be writable (`Some(true)`), must not be (`Some(false)`), or either.
    pub writable: Option<bool>,
    /// What happens to values that the dtype cannot hold.
    pub on_loss: OnLoss,
    /// Drop the autograd graph.
    pub detach: bool,
    /// The owner promises not to write while the memory is lent.
    pub freeze: bool,
    /// The consumer's stream.
    pub stream: Option<Stream>,
}

impl Request {
    /// The verb *share*: never copies.
    pub fn share() -> Self {
        Self { copy: CopyRule::Never, ..Self::default() }
    }

    /// The verb *convert*: shares when it can.
    pub fn convert() -> Self {
        Self::default()
    }

    /// The verb *copy*: always new memory.
    pub fn copy() -> Self {
        Self { copy: CopyRule::Always, ..Self::default() }
    }

    /// With another element type.
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// With a memory order.
    pub fn order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// With a device.
    ///
    /// ```
    /// use freehold::{Caps, Code, Device, DeviceKind, Policy, Request, Tensor, decide};
    ///
    /// let t = Tensor::from(vec![1.0f32]);
    /// let away = Request::convert().device(Device::new(DeviceKind::CUDA, 0));
    /// // The default policy knows of no device but the host; `Runtime::policy_for` looks.
    /// assert_eq!(decide(&t.desc(), &away, &Caps::TORCH, &Policy::default()).code(), Some(Code::DV02));
    /// ```
    pub fn device(self, device: Device) -> Self {
        Self { device: Some(device), ..self }
    }

    /// With a demand about writing.
    ///
    /// ```
    /// use freehold::{Caps, Policy, Request, Tensor, decide};
    ///
    /// let t = Tensor::from(vec![1.0f32]);
    /// let decision = decide(&t.desc(), &Request::share().writable(false), &Caps::NUMPY, &Policy::default());
    /// assert_eq!(decision.to_string(), "share, read-only");
    /// ```
    pub fn writable(self, writable: bool) -> Self {
        Self { writable: Some(writable), ..self }
    }

    /// With the autograd graph dropped.
    ///
    /// ```
    /// use freehold::{Caps, Policy, Request, Tensor, TensorDesc, Traits, decide};
    ///
    /// let t = Tensor::from(vec![1.0f32]);
    /// let leaf = TensorDesc { traits: Traits::REQUIRES_GRAD, ..t.desc() };
    /// let answer = |request| decide(&leaf, &request, &Caps::NUMPY, &Policy::default()).to_string();
    /// assert_eq!(answer(Request::share()), "reject: GR01");
    /// assert_eq!(answer(Request::share().detach()), "share, read-only: GR02");
    /// ```
    pub fn detach(self) -> Self {
        Self { detach: true, ..self }
    }

    /// With the owner frozen while the memory is lent.
    ///
    /// ```
    /// use freehold::{Caps, Policy, Request, Tensor, decide};
    ///
    /// let t = Tensor::from(vec![1.0f32]);
    /// let jax = Caps { alignment: 1, ..Caps::JAX }; // which takes its memory for immutable
    /// let answer = |request| decide(&t.desc(), &request, &jax, &Policy::default()).is_ok();
    /// assert_eq!((answer(Request::share()), answer(Request::share().freeze())), (false, true));
    /// ```
    pub fn freeze(self) -> Self {
        Self { freeze: true, ..self }
    }

    /// With a rule for values that do not fit.
    ///
    /// ```
    /// use freehold::{Caps, DType, OnLoss, Policy, Request, Tensor, convert};
    ///
    /// let t = Tensor::from(vec![300i32, -1]);
    /// let bytes = Request::convert().dtype(DType::U8).on_loss(OnLoss::Saturate);
    /// assert_eq!(convert(&t, &bytes, &Caps::FREEHOLD, &Policy::default())?.view::<u8>()?.to_vec(), [255, 0]);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn on_loss(self, on_loss: OnLoss) -> Self {
        Self { on_loss, ..self }
    }
}
