//! Typed access to host tensors.

use std::marker::PhantomData;

use crate::tensor::{Owner, Tensor, unit_of};
use crate::{Code, DType, Decision, Error, Message, Result, StrideUnit, Traits};

mod sealed {
    pub trait Sealed {}
}

/// A Rust type with the bits of a DLPack dtype. Every bit pattern is a value, so reading foreign memory as one is
/// sound; `bool` is not among them (a foreign byte may be neither 0 nor 1).
///
/// ```
/// use freehold::{DType, Element, Tensor};
///
/// fn first<T: Element>(t: &Tensor) -> Option<T> {
///     t.view::<T>().ok()?.get(&[0])
/// }
/// let t = Tensor::from(vec![7i16, 8]);
/// assert_eq!((first::<i16>(&t), first::<u16>(&t)), (Some(7), None));
/// assert_eq!(i16::DTYPE, DType::I16);
/// ```
pub trait Element: Copy + Send + Sync + 'static + sealed::Sealed {
    /// The dtype.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t { const DTYPE: DType = DType::$d; }
    )*};
}

elements!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    f32 => F32, f64 => F64);

/// Read access to a host tensor's elements, by value: the memory may be shared with code that writes to it, so no
/// `&[T]` is handed out.
///
/// ```
/// let t = freehold::Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
/// let view = t.view::<f32>()?;
/// assert_eq!((view.get(&[1, 0]), view.get(&[2, 0])), (Some(3.0), None));
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Debug)]
pub struct View<'a, T> {
    tensor: &'a Tensor,
    marker: PhantomData<T>,
}

/// Exclusive access to memory of ours that nobody else holds.
///
/// ```
/// let mut t = freehold::Tensor::from(vec![1, 2, 3]);
/// t.view_mut::<i32>()?.as_mut_slice()[0] = 10;
/// let other = t.clone();
/// assert!(t.view_mut::<i32>().is_err()); // somebody else has it now
/// # drop(other);
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    pub(crate) tensor: &'a mut Tensor,
    marker: PhantomData<T>,
}

fn offset(tensor: &Tensor, index: &[i64]) -> Option<isize> {
    let shape = tensor.shape();
    if index.len() != shape.len() || index.iter().zip(shape).any(|(i, n)| *i < 0 || i >= n) {
        return None;
    }
    let steps: i64 = index.iter().zip(tensor.strides()).map(|(i, s)| i * s).sum();
    let size = match unit_of(tensor.traits()) {
        StrideUnit::Elements => tensor.dtype().padded_size() as i64,
        StrideUnit::Bytes => 1,
    };
    Some((steps * size) as isize)
}

fn check<T: Element>(tensor: &Tensor) -> Result<()> {
    if tensor.dtype() != T::DTYPE {
        let text = format!("view::<{}>({}): another dtype.", T::DTYPE, tensor.desc());
        return Err(Error::rejected(Message::plain(Code::DT02, text, "convert it first"), None));
    }
    if !tensor.device().kind.is_host() {
        let text = format!("view({}): not on the host.", tensor.desc());
        return Err(Error::rejected(Message::plain(Code::DV01, text, "move it first"), None));
    }
    if tensor.traits().intersects(Traits::LAZY) {
        let text = format!("view({}): the bytes are not the values.", tensor.desc());
        return Err(Error::rejected(Message::plain(Code::LZ01, text, "convert it first"), None));
    }
    Ok(())
}

impl Tensor {
    /// Read access.
    ///
    /// # Errors
    ///
    /// `DT02` another dtype, `DV01` not on the host, `LZ01` lazy bits.
    pub fn view<T: Element>(&self) -> Result<View<'_, T>> {
        check::<T>(self)?;
        Ok(View { tensor: self, marker: PhantomData })
    }

    /// Exclusive access: only to compact memory of ours with one handle and no export alive.
    ///
    /// # Errors
    ///
    /// As [`Tensor::view`]; `RO01` read-only, foreign or shared memory; `ST02` not compact.
    pub fn view_mut<T: Element>(&mut self) -> Result<ViewMut<'_, T>> {
        check::<T>(self)?;
        let refuse = |code, why: &str, fix: &str| {
            let text = format!("view_mut({}): {why}", self.desc());
            Err(Error::rejected(Message::plain(code, text, fix), None::<Decision>))
        };
        let ours = matches!(self.0.owner, Owner::Buffer(_) | Owner::Value(_));
        if !self.is_writable() || !ours || !self.is_sole() {
            return refuse(Code::RO01, "the memory is read-only, foreign, or held by somebody else.", "copy it first");
        }
        if !self.layout().is_c_contiguous() || !self.0.data.cast::<T>().is_aligned() {
            return refuse(Code::ST02, "a slice needs compact, aligned memory.", "convert it to order C first");
        }
        Ok(ViewMut { tensor: self, marker: PhantomData })
    }
}

impl<T: Element> View<'_, T> {
    /// The element at an index, or `None` outside the shape.
    pub fn get(&self, index: &[i64]) -> Option<T> {
        let offset = offset(self.tensor, index)?;
        // SAFETY: the index is inside the shape, whose extent was validated and is kept readable by the owner; the
        // read is by value and unaligned, and every bit pattern is a `T`.
        Some(unsafe { self.tensor.data_ptr().offset(offset).cast::<T>().read_unaligned() })
    }

    /// All elements in C order.
    pub fn to_vec(&self) -> Vec<T> {
        let shape = self.tensor.shape();
        let n = usize::try_from(self.tensor.numel()).unwrap_or(0);
        let mut out = Vec::with_capacity(n);
        let mut index = vec![0i64; shape.len()];
        for _ in 0..n {
            out.extend(self.get(&index));
            for d in (0..shape.len()).rev() {
                index[d] += 1;
                if index[d] < shape[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        out
    }
}

impl<T: Element> ViewMut<'_, T> {
    /// The elements as a slice in C order.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        let n = usize::try_from(self.tensor.numel()).unwrap_or(0);
        if n == 0 {
            return &mut [];
        }
        // SAFETY: the memory is ours, compact, aligned, and `view_mut` found one handle and no export, which the
        // exclusive borrow of the tensor keeps true.
        unsafe { std::slice::from_raw_parts_mut(self.tensor.data_ptr().cast::<T>(), n) }
    }
}
