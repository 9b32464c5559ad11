#![allow(missing_docs, clippy::all)]
use super::*;
pub fn prepare_release(_c: &'static Context) -> Result<(), CudaError> {
    Ok(())
}
pub fn release_after(
    _u: &[(&'static Context, StreamRef)],
    _h: Option<(&'static Context, StreamRef)>,
    d: Box<dyn FnOnce() + Send>,
) {
    d()
}
pub unsafe fn zero(_c: &'static Context, _a: u64, _b: usize, _s: StreamRef) -> Result<(), CudaError> {
    Ok(())
}
pub mod transfer {
    use super::*;
    use freehold_tensor::copy::{CopyError, CopyOptions, Operand};
    pub struct Side<'a> {
        pub operand: Operand<'a>,
        pub device: freehold_tensor::Device,
    }
    #[non_exhaustive]
    #[derive(Debug)]
    pub enum TransferError {
        Copy(CopyError),
        Cuda(CudaError),
        Alloc(crate::AllocError),
    }
    impl std::fmt::Display for TransferError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }
    pub struct Done {
        pub event: Option<Event>,
    }
    pub unsafe fn copy(_d: &Side<'_>, _s: &Side<'_>, _o: &CopyOptions, _st: StreamRef) -> Result<Done, TransferError> {
        Ok(Done { event: None })
    }
}
