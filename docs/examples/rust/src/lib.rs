//! A function that takes a tensor from anywhere, written with ndarray: from Python, C or candle it comes as a [`Tensor`].

use freehold::{Caps, DType, Policy, Request, Result, Tensor, convert};
use ndarray::{Array1, Axis, Ix2};

/// The mean of each column of a matrix of numbers.
///
/// # Errors
///
/// `CA02` and its kin where the values do not fit f64, `AR01` where it is not a matrix.
pub fn column_means(matrix: &Tensor) -> Result<Tensor> {
    // Shares what is f64 already, converts everything else in one pass.
    let numbers = convert(matrix, &Request::convert().dtype(DType::F64), &Caps::FREEHOLD, &Policy::default())?;
    // SAFETY: the caller lends the matrix for this call and does not write to it meanwhile; the view ends with the call.
    let view = unsafe { numbers.as_ndarray::<f64>() }?;
    let rank = format!("of {} dimensions", view.ndim());
    let view = view
        .into_dimensionality::<Ix2>()
        .map_err(|_| freehold::Error::argument("matrix", rank, "have two dimensions"))?;
    let means: Array1<f64> = view.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(view.ncols()));
    // The result's memory goes out as it is.
    Tensor::try_from(means)
}
