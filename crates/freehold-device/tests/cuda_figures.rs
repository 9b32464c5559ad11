//! The program that measures the pool on a GPU runs, and says all that the report asks of it. What a figure is matters on a GPU
//! only.

#![cfg(all(target_os = "linux", not(miri)))]

#[path = "common/cuda.rs"]
mod cuda;
#[path = "../examples/cuda_pool.rs"]
mod cuda_pool;

use std::time::Duration;

/// The numbers after a text in each line that begins with another.
fn numbers(lines: &[String], begin: &str, after: &str) -> Vec<f64> {
    let rest = lines.iter().filter(|line| line.starts_with(begin)).filter_map(|line| line.split_once(after));
    let numbers = rest.map(|(_, rest)| rest.split([',', '}']).next().expect("a value"));
    numbers.map(|number| number.parse().expect("a number")).collect()
}

#[test]
fn every_figure_of_the_pool_is_there_and_nothing_is_left() {
    let (control, context) = cuda::driver();
    let plan = cuda_pool::Plan { live: &[(10, 1 << 20), (300, 4096)], rounds: 2, turn: Duration::from_micros(100) };
    let mut lines = Vec::new();
    let before = control.live();
    cuda_pool::run(context, &plan, &mut |line| lines.push(line)).expect("measured");
    // A row is a request of one of three sizes, or of random ones; only the first three are held to 100 ns.
    for (claim, count) in [("pool-10", 3), ("pool-300", 3), ("pool-async", 8)] {
        let found = numbers(&lines, &format!(r#"{{"claim": "{claim}""#), r#""value": "#);
        assert_eq!(found.len(), count, "{claim} in {lines:#?}");
        assert!(found.iter().all(|value| value.is_finite() && *value > 0.0), "{found:?}");
    }
    for contestant in ["cuMemAllocAsync", "Freehold, cuda-async", "Freehold, cuda-pool"] {
        let found = numbers(&lines, r#"{"table": "a request and a free, "#, &format!(r#""{contestant}": "#));
        assert_eq!(found.len(), 8, "{contestant} in {lines:#?}");
        assert!(found.iter().all(|ns| ns.is_finite() && *ns > 0.0), "{found:?}");
    }
    let after = control.live();
    let left = |live: freehold_fake_cuda::control::Live| (live.blocks, live.pools, live.pool_used, live.races);
    assert_eq!(left(after), left(before));
}
