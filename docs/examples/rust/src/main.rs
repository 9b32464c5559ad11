//! ndarray's arrays go in and come out, on the ledger.

use freehold::{ExportOptions, Runtime, Tensor};
use freehold_example::column_means;
use ndarray::{Array1, array};

fn main() -> freehold::Result<()> {
    let mark = Runtime::global().ledger().mark();
    let array = array![[1.0f64, 2.0], [3.0, 4.0]];
    let first = array.as_ptr().addr();
    let matrix = Tensor::try_from(array)?;
    println!("{matrix:?}: the array's own memory: {}", matrix.data_ptr().addr() == first);
    println!("{:?}", column_means(&matrix)?.view::<f64>()?.to_vec());

    // Another dtype, read by columns.
    let bytes = Tensor::try_from(array![[1u8, 2], [3, 5]].reversed_axes())?;
    println!("{:?}", column_means(&bytes)?.view::<f64>()?.to_vec());

    match column_means(&Tensor::from(vec![1.0f32])) {
        Ok(means) => println!("{means:?}"),
        Err(error) => println!("{}", error.message().headline),
    }

    // Out to another library as a capsule, which keeps the memory alive by itself.
    let capsule = matrix.to_versioned(&ExportOptions::default())?;
    drop(matrix);
    println!("live: {}", Runtime::global().ledger().leaks(mark).len());
    drop(capsule);
    drop(bytes);
    println!("live: {}", Runtime::global().ledger().leaks(mark).len());

    let copied: Array1<i32> = Array1::try_from(&Tensor::from(vec![4, 5, 6]))?;
    println!("{copied}");
    Ok(())
}
