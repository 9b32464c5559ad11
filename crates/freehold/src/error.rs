//! The one error of this crate: a reason code, a message that teaches, and the decision behind it.

use std::fmt;

use freehold_device::cuda::CudaError;
use freehold_device::{AllocError, AllocReason};

use crate::decision::{Detail, Reason};
use crate::dialect::Advice;
use crate::{Code, Decision, Dialect, FieldError, Message};

/// The result of a fallible call.
///
/// ```
/// fn sum(values: Vec<f32>, shape: &[i64]) -> freehold::Result<f32> {
///     Ok(freehold::Tensor::from_vec(values, shape)?.view::<f32>()?.to_vec().iter().sum())
/// }
/// assert_eq!(sum(vec![1.0, 2.0], &[2])?, 3.0);
/// assert!(sum(vec![1.0, 2.0], &[3]).is_err_and(|error| error.is_argument()));
/// # Ok::<(), freehold::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a handover did not happen. One word wide; everything else is behind it.
///
/// ```
/// use freehold::{Code, Tensor};
///
/// let error = Tensor::from_vec(vec![1.0f32; 5], &[2, 3]).unwrap_err();
/// assert_eq!(error.code(), Code::AR01);
/// assert!(error.to_string().starts_with("[AR01] shape is [2, 3]; it must hold 5 elements."));
/// assert!(!error.fixes().is_empty());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: Message,
    decision: Option<Decision>,
}

impl Error {
    /// A refusal with its rendered message.
    pub fn rejected(message: Message, decision: Option<Decision>) -> Self {
        Self(Box::new(Inner { code: message.code, message, decision }))
    }

    /// A field of a capsule that breaks a rule (`CP02`).
    pub fn capsule(error: FieldError) -> Self {
        let message = Message::capsule(&error);
        Self::rejected(message, Some(Decision::reject(Reason::new(Code::CP02, Detail::Field(error)))))
    }

    /// An argument that is not valid (`AR01`).
    pub fn argument(name: &str, value: impl fmt::Display, must: &str) -> Self {
        Self::rejected(Message::argument(name, &value.to_string(), must), None)
    }

    /// Memory that could not be had (`ME01`); `SY01` where a captured stream would have to allocate it.
    pub fn allocation(error: &AllocError) -> Self {
        if error.reason == AllocReason::Capturing {
            let fix = "do it before the capture";
            return Self::rejected(Message::plain(Code::SY01, error.to_string(), fix), None);
        }
        Self::rejected(
            Message::plain(Code::ME01, error.to_string(), "free memory, raise the limit, or share instead"),
            None,
        )
    }

    /// A failure of the CUDA driver: `SY01` where a captured stream would have to be waited for, `ME01` out of memory,
    /// `AR01` a number that is no stream, `DV02` everything else.
    pub fn device(error: &CudaError) -> Self {
        let (code, fix) = match error {
            CudaError::BadStream(number) => {
                return Self::argument("stream", number, "be 1, 2 or a handle for CUDA, or -1");
            }
            CudaError::Capturing { .. } => (Code::SY01, "do it before the capture, or on the stream that is captured"),
            _ if error.is_out_of_memory() => (Code::ME01, "free memory of the device, or share instead"),
            // cuda.h: 900 to 908 are what a capture forbids.
            _ if error.status().is_some_and(|status| (900..=908).contains(&status.0)) => {
                (Code::SY01, "do it before the capture, or on the stream that is captured")
            }
            CudaError::Unavailable(_) | CudaError::NoDevice { .. } => {
                (Code::DV02, Advice::OtherDevice.say(Dialect::Rust))
            }
            CudaError::Forked => (Code::DV02, "start the process with spawn instead of fork"),
            _ => (Code::DV02, "look at what used the device before: CUDA reports earlier failures late"),
        };
        Self::rejected(Message::plain(code, format!("{error}."), fix), None)
    }

    /// A panic that was caught (`IN01`): a defect of Freehold or of an owner's drop.
    pub fn internal(what: &str) -> Self {
        let text = format!("internal defect: {what}");
        Self::rejected(Message::plain(Code::IN01, text, "report it with this message"), None)
    }

    /// The error in the language of a face that hands it on: its message was written in Rust if it was made before anybody knew who
    /// asked.
    ///
    /// ```
    /// use freehold::{Dialect, ExportOptions, Tensor};
    ///
    /// let t = Tensor::from(vec![1.0f32]).read_only();
    /// let error = t.to_legacy(&ExportOptions::default()).err().expect("a legacy capsule cannot say read-only");
    /// assert!(error.fixes()[0].contains(".to_versioned("));
    /// assert!(error.in_dialect(Dialect::C).fixes()[0].contains("fh_export_versioned("));
    /// ```
    #[must_use]
    pub fn in_dialect(mut self, dialect: Dialect) -> Self {
        if dialect != Dialect::Rust {
            for fix in &mut self.0.message.fixes {
                if let Some(said) = Advice::again(fix, dialect) {
                    said.clone_into(fix);
                }
            }
        }
        self
    }

    /// The reason code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message, with its headline, details and fixes.
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// Runnable fixes, best first.
    pub fn fixes(&self) -> &[String] {
        &self.0.message.fixes
    }

    /// The decision that said no, where one was made.
    ///
    /// ```
    /// use freehold::{Caps, Policy, Request, Tensor, Verdict, convert};
    ///
    /// let t = Tensor::from(vec![1.0f32]).read_only();
    /// let error = convert(&t, &Request::share(), &Caps::TORCH, &Policy::default()).unwrap_err();
    /// assert_eq!(error.decision().map(|decision| decision.verdict), Some(Verdict::Reject));
    /// ```
    pub fn decision(&self) -> Option<&Decision> {
        self.0.decision.as_ref()
    }

    /// Whether memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        self.0.code == Code::ME01
    }

    /// Whether the caller's own arguments were wrong, not the tensor.
    pub fn is_argument(&self) -> bool {
        self.0.code == Code::AR01
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.message, f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Error {}
