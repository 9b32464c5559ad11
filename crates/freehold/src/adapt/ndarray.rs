//! [`ndarray`]: arrays come in without a copy, whatever their strides are.

use ::ndarray::{Array, ArrayViewD, ArrayViewMutD, Axis, Dimension, IxDyn, ShapeBuilder};

use super::{collect, expect_dtype};
use crate::view::Element;
use crate::{Code, Device, Error, ImportOptions, Label, Message, Owner, RawTensor, Result, Tensor, Traits, ViewMut};

/// Takes the array over, without a copy.
///
/// ```
/// let array = ndarray::array![[1.0f32, 2.0], [3.0, 4.0]].reversed_axes();
/// let first = array.as_ptr();
/// let t = freehold::Tensor::try_from(array)?;
/// assert_eq!((t.data_ptr().cast_const().cast(), t.strides()), (first, &[1, 2][..]));
/// # Ok::<(), freehold::Error>(())
/// ```
impl<A: Element, D: Dimension> TryFrom<Array<A, D>> for Tensor {
    type Error = Error;

    /// # Errors
    ///
    /// `CP02`: more dimensions than DLPack has (64).
    fn try_from(array: Array<A, D>) -> Result<Tensor> {
        let shape: Vec<i64> = array.shape().iter().map(|&n| n as i64).collect();
        let strides: Vec<i64> = array.strides().iter().map(|&n| n as i64).collect();
        let (mut values, offset) = array.into_raw_vec_and_offset();
        let base = values.as_mut_ptr();
        let bytes = (values.capacity() * size_of::<A>()) as u64;
        let raw = RawTensor {
            data: base.wrapping_add(offset.unwrap_or(0)).cast(),
            shape: &shape,
            strides: Some(&strides),
            dtype: A::DTYPE,
            device: Device::CPU,
            owner: Owner::Value(Box::new(values)),
        };
        let alloc = Some((base.addr() as u64, bytes));
        let options = ImportOptions { framework: Label::intern("ndarray"), alloc, ..ImportOptions::default() };
        // SAFETY: every element that shape and strides reach from the offset is in the vector (ndarray's own invariant), which
        // the owner keeps; moving a `Vec` does not move its elements.
        unsafe { Tensor::from_raw(raw, &options) }
    }
}

/// A copy in C order, made in one pass.
///
/// ```
/// let t = freehold::Tensor::from_vec(vec![1i32, 2, 3, 4], &[2, 2])?;
/// let array = ndarray::Array2::<i32>::try_from(&t)?;
/// assert_eq!(array[[1, 0]], 3);
/// # Ok::<(), freehold::Error>(())
/// ```
impl<A: Element, D: Dimension> TryFrom<&Tensor> for Array<A, D> {
    type Error = Error;

    /// # Errors
    ///
    /// `DT02` another dtype, `AR01` another number of dimensions; `DV01` where the memory cannot be read from here.
    fn try_from(tensor: &Tensor) -> Result<Self> {
        let shape = sizes(tensor);
        if let Some(ndim) = D::NDIM
            && ndim != shape.ndim()
        {
            return Err(Error::argument(
                "the tensor",
                format!("of {} dimensions", shape.ndim()),
                &format!("have {ndim}"),
            ));
        }
        let values = collect::<A>(tensor, A::DTYPE)?;
        let array = Array::from_shape_vec(shape, values).map_err(|e| Error::internal(&e.to_string()))?;
        array.into_dimensionality::<D>().map_err(|e| Error::internal(&e.to_string()))
    }
}

impl Tensor {
    /// The same memory as an array to read, without a copy.
    ///
    /// ```
    /// let t = freehold::Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
    /// // SAFETY: nobody else has the tensor.
    /// let array = unsafe { t.as_ndarray::<f32>()? };
    /// assert_eq!((array[[1, 0]], array.as_ptr()), (3.0, t.data_ptr().cast_const().cast()));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `DT02` another dtype, `DV01` not on the host, `LZ01` lazy bits, `ST03` strides in bytes, `AG01` not aligned.
    ///
    /// # Safety
    ///
    /// * Nobody writes to the memory while the view lives: no other holder of it, here or in another framework.
    pub unsafe fn as_ndarray<A: Element>(&self) -> Result<ArrayViewD<'_, A>> {
        expect_dtype(self, A::DTYPE)?;
        let refuse = |code, why: &str| {
            let text = format!("as_ndarray({}): {why}", self.desc());
            Err(Error::rejected(Message::plain(code, text, "convert it first, or copy: Array::try_from(&x)"), None))
        };
        if !self.device().kind.is_host() {
            return refuse(Code::DV01, "not on the host.");
        }
        if self.traits().intersects(Traits::LAZY) {
            return refuse(Code::LZ01, "the bytes are not the values.");
        }
        if self.traits().contains(Traits::BYTE_STRIDES) {
            return refuse(Code::ST03, "ndarray counts whole elements.");
        }
        let mut first = self.data_ptr().cast::<A>().cast_const();
        if self.numel() == 0 {
            first = std::ptr::NonNull::dangling().as_ptr();
        } else if !first.is_aligned() {
            return refuse(Code::AG01, "the elements are not aligned.");
        }
        // A view is made from its lowest address; what runs backwards is turned round afterwards.
        let mut steps = IxDyn::zeros(self.shape().len());
        let mut turned = Vec::new();
        for (axis, (&n, &step)) in self.shape().iter().zip(self.strides()).enumerate() {
            steps[axis] = step.unsigned_abs() as usize;
            if step < 0 && self.numel() > 0 {
                first = first.wrapping_offset((step * (n - 1)) as isize);
                turned.push(Axis(axis));
            }
        }
        // SAFETY: the extent was validated when the tensor was made and its owner keeps it readable; the pointer is its lowest
        // address and aligned; any bit pattern is an `A`; that nobody writes is the caller's promise.
        let mut view = unsafe { ArrayViewD::from_shape_ptr(sizes(self).strides(steps), first) };
        for axis in turned {
            view.invert_axis(axis);
        }
        Ok(view)
    }
}

impl<'a, A: Element> ViewMut<'a, A> {
    /// The same memory as an array to read and write, without a copy: nobody else holds it while this lives.
    ///
    /// ```
    /// let mut t = freehold::Tensor::from_vec(vec![1.0f64, 2.0], &[2])?;
    /// t.view_mut::<f64>()?.into_ndarray().mapv_inplace(|x| 10.0 * x);
    /// assert_eq!(t.view::<f64>()?.to_vec(), [10.0, 20.0]);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn into_ndarray(self) -> ArrayViewMutD<'a, A> {
        let (shape, first) = (sizes(self.tensor), self.tensor.data_ptr().cast::<A>());
        let first = if self.tensor.numel() == 0 { std::ptr::NonNull::dangling().as_ptr() } else { first };
        // SAFETY: `view_mut` found compact, aligned memory of ours with one handle and no export, and this view keeps the
        // exclusive borrow that keeps it so.
        unsafe { ArrayViewMutD::from_shape_ptr(shape, first) }
    }
}

fn sizes(tensor: &Tensor) -> IxDyn {
    IxDyn(&tensor.shape().iter().map(|&n| n as usize).collect::<Vec<_>>())
}
