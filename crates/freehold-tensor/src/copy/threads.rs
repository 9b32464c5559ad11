//! Large copies on several threads.
//!
//! One pool for the process, started by the first copy that is large enough. A forked child has none of its parent's
//! threads: it sees that the pool belongs to another process, starts its own when it needs one, and never touches the
//! parent's again. Where threads cannot be had, the calling thread does it all.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread::current;
use std::time::SystemTime;

use super::crew::{AWAKE, Crew};
use super::plan::Plan;
use super::run::{Steps, Unit};
use super::stream::{LINE, PAGE};
use super::way::{Class, Way};

/// Bytes that repay a thread: waking one costs about 10 us, in which a core copies some 200 KiB.
const PER_THREAD: u64 = 512 << 10;

/// Bytes that repay a thread which is awake, as it is while copies follow one another.
const PER_AWAKE: u64 = 128 << 10;

/// Pieces for each thread, so that one that was held up is not waited for long.
const PIECES: u64 = 4;

/// What [`set_num_threads`] asked for; 0 for the default.
static WANTED: AtomicUsize = AtomicUsize::new(0);

/// How many threads a large copy uses at most, the calling one included: what [`set_num_threads`] said, else the
/// environment variable `FREEHOLD_NUM_THREADS`, else the processors that this process may use (its affinity and its
/// control group's quota are respected).
///
/// ```
/// use freehold_tensor::copy::num_threads;
///
/// assert!(num_threads() >= 1);
/// ```
pub fn num_threads() -> usize {
    match WANTED.load(Ordering::Relaxed) {
        0 => default_threads(),
        n => n,
    }
}

/// Changes how many threads a large copy uses at most, the calling one included; 1 for none beside it, 0 for the
/// default. For the whole process, from the next copy on.
///
/// ```
/// use freehold_tensor::copy::{num_threads, set_num_threads};
///
/// let before = num_threads();
/// set_num_threads(1);
/// assert_eq!(num_threads(), 1);
/// set_num_threads(0);
/// assert_eq!(num_threads(), before);
/// ```
pub fn set_num_threads(n: usize) {
    WANTED.store(n, Ordering::Relaxed);
}

fn default_threads() -> usize {
    /// 0 until asked.
    static DEFAULT: AtomicUsize = AtomicUsize::new(0);
    match DEFAULT.load(Ordering::Relaxed) {
        0 => {
            let wanted = std::env::var("FREEHOLD_NUM_THREADS").ok();
            let n =
                parse(wanted.as_deref()).unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
            DEFAULT.store(n, Ordering::Relaxed);
            n
        }
        n => n,
    }
}

/// A number of threads as the environment names it; what is not one counts for nothing.
fn parse(text: Option<&str>) -> Option<usize> {
    text?.trim().parse().ok().filter(|&n| n > 0)
}

/// A pool and the process whose threads it has.
struct Pool {
    process: u32,
    /// How many were asked for.
    helpers: usize,
    crew: Crew,
}

/// Null until the first large copy. What was here once is never freed: another thread may hold it, or its threads are
/// another process's.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());

/// This process's pool of at least so many threads, or of fewer where they cannot be had. No lock is taken: a child could be
/// forked while another thread holds it.
fn pool(helpers: usize) -> &'static Pool {
    let process = std::process::id();
    let mut seen = POOL.load(Ordering::Acquire);
    loop {
        // SAFETY: what was stored here was leaked whole, before it was stored.
        if let Some(pool) = unsafe { seen.as_ref() }
            && pool.process == process
            && pool.helpers >= helpers
        {
            return pool;
        }
        let helpers = helpers.max(default_threads() - 1);
        let own = Box::into_raw(Box::new(Pool { process, helpers, crew: Crew::new(helpers) }));
        match POOL.compare_exchange(seen, own, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => seen = own,
            Err(other) => seen = other, // the threads of ours sleep for ever
        }
    }
}

/// Calls `work` on up to so many threads at once, the calling one included, and returns when all calls have that began: for
/// copies that are cut into pieces by their caller. Calls must take pieces from a common store until that is empty: a thread
/// that would begin after the first of them has ended does not.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use freehold_tensor::copy::on_threads;
///
/// let (next, sum) = (AtomicU64::new(0), AtomicU64::new(0));
/// on_threads(2, || {
///     while let piece @ 0..100 = next.fetch_add(1, Ordering::Relaxed) {
///         sum.fetch_add(piece, Ordering::Relaxed);
///     }
/// });
/// assert_eq!(sum.into_inner(), 4950); // each piece once
/// ```
///
/// # Panics
///
/// When `work` does, in any thread, once all calls have ended.
pub fn on_threads(threads: usize, work: impl Fn() + Sync) {
    if threads < 2 {
        return work();
    }
    pool(threads - 1).crew.run(threads - 1, &work);
}

/// When the last copy ended that is large enough to be shared, in nanoseconds of the clock of the day, which needs no place to
/// start from: if that clock is set, one copy is taken for early or late.
static ENDED: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// Whether another copy ended so little before that a helper is still awake, or worth waking.
fn soon() -> bool {
    now().wrapping_sub(ENDED.load(Ordering::Relaxed)) < AWAKE.as_nanos() as u64
}

/// The bytes of the larger side.
fn bytes(steps: &Steps, plan: &Plan) -> u64 {
    plan.elements().saturating_mul(steps.src_unit.block_size().max(steps.dst_unit.block_size()) as u64)
}

/// How many threads a copy repays, of `most` at most; two from a quarter of a mebibyte on if it comes [`soon`] after another.
fn wanted(
    steps: &Steps,
    way: &Way,
    dst: *mut u8,
    plan: &Plan,
    most: Option<NonZeroUsize>,
    soon: impl FnOnce() -> bool,
) -> usize {
    let bytes = bytes(steps, plan);
    #[cfg(test)]
    if let Some(threads) = super::way::tuning::get().threads {
        return if Cut::new(steps, way, dst, plan, threads as u64 * PIECES).is_some() { threads } else { 1 };
    }
    if bytes < 2 * PER_AWAKE {
        return 1;
    }
    let most = most.map_or_else(num_threads, NonZeroUsize::get);
    if most < 2 {
        return 1;
    }
    let repaid = if bytes < 2 * PER_THREAD { 1 + usize::from(soon()) } else { (bytes / PER_THREAD) as usize };
    let threads = most.min(repaid);
    if threads < 2 || Cut::new(steps, way, dst, plan, 2).is_none() { 1 } else { threads }
}

/// How many threads a copy repays that comes alone.
pub(super) fn alone(steps: &Steps, way: &Way, dst: *mut u8, plan: &Plan, most: Option<NonZeroUsize>) -> usize {
    wanted(steps, way, dst, plan, most, || false)
}

/// [`Steps::run`], on as many threads as the copy repays.
///
/// # Safety
///
/// As for [`Steps::run`].
pub(super) unsafe fn run(steps: &Steps, dst: *mut u8, src: *const u8, plan: &Plan, most: Option<NonZeroUsize>) -> u64 {
    let way = Way::new(steps, plan);
    let threads = wanted(steps, &way, dst, plan, most, soon);
    let cut = if threads > 1 { Cut::new(steps, &way, dst, plan, threads as u64 * PIECES) } else { None };
    let lost = match cut {
        // SAFETY: the caller's guarantees.
        Some(cut) => unsafe { share(threads, steps, &way, dst, src, plan, &cut) },
        // SAFETY: the caller's guarantees.
        None => unsafe { steps.walk(&way, dst, src, plan) },
    };
    if bytes(steps, plan) >= 2 * PER_AWAKE {
        ENDED.store(now(), Ordering::Relaxed);
    }
    lost
}

/// Addresses that other threads may have: the caller of the copy lends them until it returns.
#[derive(Clone, Copy)]
struct Lent(*mut u8, *const u8);
// SAFETY: pieces of a plan write apart from each other, and nobody else writes, as the copy's caller guarantees.
unsafe impl Sync for Lent {}

/// # Safety
///
/// As for [`Steps::run`].
unsafe fn share(threads: usize, steps: &Steps, way: &Way, dst: *mut u8, src: *const u8, plan: &Plan, cut: &Cut) -> u64 {
    let (taken, lost) = (AtomicUsize::new(0), AtomicU64::new(0));
    // The caller takes pieces from the front and helpers from the back: of a copy that is made again, a core finds in its cache what
    // it had there.
    let (front, back, caller) = (AtomicUsize::new(0), AtomicUsize::new(1), current().id());
    let lent = &Lent(dst, src);
    on_threads(threads, || {
        let first = current().id() == caller;
        // Relaxed: the end of all calls orders what threads wrote before what the caller does next.
        while taken.fetch_add(1, Ordering::Relaxed) < cut.pieces {
            let i = match first {
                true => front.fetch_add(1, Ordering::Relaxed),
                false => cut.pieces - back.fetch_add(1, Ordering::Relaxed),
            };
            let piece = cut.piece(plan, i);
            // SAFETY: pieces are apart, since no more are taken than there are; together they are the caller's plan.
            let more = unsafe { steps.walk(way, lent.0, lent.1, &piece) };
            lost.fetch_add(more, Ordering::Relaxed);
        }
    });
    lost.into_inner()
}

/// A plan cut along one axis.
struct Cut {
    axis: usize,
    pieces: usize,
    /// Positions that stay together, counted from `shift` before the first.
    grain: usize,
    shift: usize,
}

impl Cut {
    /// No two pieces share a page, as far as the axis that is cut allows.
    ///
    /// Cuts along the outermost axis that is long enough for so many pieces, or else the one that gives the most;
    /// `None` where there is but one.
    fn new(steps: &Steps, way: &Way, dst: *mut u8, plan: &Plan, pieces: u64) -> Option<Cut> {
        let size = steps.dst_unit.block_size();
        let last = plan.axes.len() - 1;
        // Neighbours in a shared byte are written by reading it: no two threads may have them.
        if let Unit::Bits(_) = steps.dst_unit
            && (plan.dst_start % 8 != 0 || plan.axes[..last].iter().any(|axis| axis.dst % 8 != 0))
        {
            return None;
        }
        let tiled = matches!(way.class, Class::Tiles(_));
        let grain = |i: usize| {
            let page = |step: isize| PAGE.div_ceil(step.unsigned_abs().max(1)).next_multiple_of(64);
            match last - i {
                0 if tiled => way.cols,
                0 => page(plan.axes[i].dst),
                1 if tiled => way.rows,
                _ => (PAGE / plan.axes[i].dst.unsigned_abs().max(1)).max(1),
            }
        };
        let most = |i: usize| plan.axes[i].n / grain(i);
        let all = 0..plan.axes.len();
        let axis = all.clone().find(|&i| most(i) as u64 >= pieces).or_else(|| all.max_by_key(|&i| most(i)))?;
        let pieces = pieces.min(most(axis) as u64) as usize;
        // Pieces of a run start where a line of the cache does, if its elements do.
        let start = dst.addr().wrapping_add_signed(plan.dst_start);
        let whole = axis == last && matches!(steps.dst_unit, Unit::Bytes(_));
        let shift = if whole { start % LINE / size } else { 0 };
        (pieces > 1).then_some(Cut { axis, pieces, grain: grain(axis), shift })
    }

    /// Piece `i` of `pieces`, counted from 0.
    fn piece(&self, plan: &Plan, i: usize) -> Plan {
        let n = plan.axes[self.axis].n;
        let bound = |i: usize| match i {
            0 => 0,
            _ if i == self.pieces => n,
            _ => {
                let at = (n as u128 * i as u128 / self.pieces as u128) as usize;
                (at / self.grain * self.grain).saturating_sub(self.shift)
            }
        };
        let (start, end) = (bound(i), bound(i + 1));
        let mut piece = plan.clone();
        let axis = &mut piece.axes[self.axis];
        axis.n = end - start;
        piece.dst_start += start as isize * axis.dst;
        piece.src_start += start as isize * axis.src;
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_number_or_nothing() {
        assert_eq!(parse(Some(" 3 ")), Some(3));
        for text in [None, Some("0"), Some("-1"), Some("all"), Some("")] {
            assert_eq!(parse(text), None);
        }
        assert!(num_threads() >= 1);
    }

    #[test]
    #[cfg_attr(miri, ignore = "starts threads that never end")]
    fn work_runs_on_as_many_threads_as_asked_at_most() {
        for threads in [0, 1, 3] {
            let calls = AtomicUsize::new(0);
            on_threads(threads, || _ = calls.fetch_add(1, Ordering::Relaxed));
            assert!((1..=threads.max(1)).contains(&calls.into_inner()));
        }
        assert!(std::ptr::eq(pool(1), pool(2)), "a pool that is large enough stays");
    }
}
