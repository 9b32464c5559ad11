//! candle's tensors go in, and results come out as candle's tensors.

use candle_core::Device;
use freehold::Tensor;
use freehold_example::column_means;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let features = candle_core::Tensor::new(&[[1f32, 2.], [3., 4.], [5., 9.]], &Device::Cpu)?;
    // SAFETY: nothing below changes `features` in place.
    let shared = unsafe { Tensor::from_candle(features.clone()) }?;
    println!("{shared:?}, writable: {}", shared.is_writable());
    let means = candle_core::Tensor::try_from(&column_means(&shared)?)?;
    println!("{means}");

    // A transposed view, copied while candle's lock is held.
    let turned = Tensor::try_from(&features.t()?)?;
    println!("{turned:?}: {:?}", turned.view::<f32>()?.to_vec());
    Ok(())
}
