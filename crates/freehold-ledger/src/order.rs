//! Sorting what is shown to people: one sort for all types, or the library would carry sixty of them.

use std::cmp::Ordering;

/// Sorts by a key; equal items stay in their order.
pub(crate) fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    by(items, |a, b| key(a).cmp(&key(b)));
}

/// Sorts; equal items stay in their order.
pub(crate) fn by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    if items.len() > 1 {
        let mut places = places(items.len(), &|a, b| compare(&items[a], &items[b]));
        arrange(items, &mut places);
    }
}

/// Which item belongs at each place.
#[inline(never)]
fn places(n: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<u32> {
    let mut places: Vec<u32> = (0..n as u32).collect();
    places.sort_by(|a, b| compare(*a as usize, *b as usize));
    places
}

/// Moves to each place the item that `places` names, all of them once. What is left in `places` is of no use.
pub(crate) fn arrange<T>(items: &mut [T], places: &mut [u32]) {
    for start in 0..places.len() {
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut places[at], at as u32) as usize;
            if from == start {
                break;
            }
            items.swap(at, from);
            at = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_standard_library_sorts() {
        for n in 0..if cfg!(miri) { 40 } else { 200 } {
            let items: Vec<(u32, String)> = (0..n).map(|i| (i * 7919 % (n / 3 + 1), i.to_string())).collect();
            let (mut ours, mut theirs) = (items.clone(), items);
            by_key(&mut ours, |item| item.0);
            theirs.sort_by_key(|item| item.0);
            assert_eq!(ours, theirs);
        }
    }
}
