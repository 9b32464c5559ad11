use super::*;

/// Opens a record whose words 1 and 2 hold a value.
fn open(slab: &Slab, value: u64) -> (u32, u32) {
    let place = slab.reserve(&mut || panic!("nothing was closed twice")).expect("memory");
    place.words()[1].store(value, Ordering::Relaxed);
    place.words()[2].store(value, Ordering::Relaxed);
    let generation = place.publish(1, 0);
    (place.index, generation)
}

#[cfg(not(loom))]
mod plain {
    use super::chunk::FIRST_CHUNK;
    use super::*;

    #[test]
    fn places_are_numbered_without_gaps() {
        let mut expected = 0;
        for chunk in 0..CHUNKS {
            let first = (chunk as u32) << OFFSET_BITS;
            for offset in [0, 1, places_in(chunk) as u32 - 1] {
                assert_eq!(number(first | offset), expected + offset);
                assert_eq!(nth(expected + offset), first | offset);
            }
            expected += places_in(chunk) as u32;
        }
        assert_eq!(expected, MAX_PLACES);
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_left_alone() {
        let slab = Slab::new();
        let (index, _) = open(&slab, 0);
        let slot = slab.slot(index).expect("there");
        let last = u64::from(u32::MAX) << state::GENERATION_SHIFT | state::LIVE;
        slot.state.store(last, Ordering::Relaxed);
        assert!(slab.close_own(index, u32::MAX));
        assert_ne!(open(&slab, 0).0, index);
    }

    #[test]
    fn indices_that_were_never_given_out_are_found_by_nobody() {
        let slab = Slab::new();
        let (index, generation) = open(&slab, 7);
        for other in [index + 1, FIRST_CHUNK, 1 << OFFSET_BITS, u32::MAX, OFFSET_MASK] {
            assert!(!slab.close_own(other, generation) && slab.read(other).is_none());
            assert!(!slab.close_remote(other, generation, &mut || panic!("nothing was closed")));
            assert!(!slab.update_flags(other, generation, 1, 0));
        }
        assert!(!slab.close_own(index, generation + 1));
        assert!(!slab.close_own(index, 0));
        assert_eq!(slab.read(index).expect("open").words[1], 7);
        assert!(slab.close_own(index, generation));
        assert!(slab.read(index).is_none());
    }

    #[test]
    fn a_close_from_elsewhere_that_comes_too_late_is_reported_and_loses_nothing() {
        // The order of events that two deleters on two threads can make, one after another: the writer has looked at
        // `remote`, then the other thread asks, then the writer closes.
        let slab = Slab::new();
        let (index, generation) = open(&slab, 0);
        let slot = slab.slot(index).expect("there");
        assert!(slab.close_remote(index, generation, &mut || panic!("first")));
        slab.end(slot, generation);
        slab.recycle(slot, index, generation);
        // The place is used again while the old request is still on the stack; the new record is closed elsewhere too.
        let (again, next) = open(&slab, 0);
        assert_eq!((again, next), (index, generation + 1));
        assert!(slab.read(index).is_some(), "the old request does not close the new record");
        let mut late = 0;
        assert!(slab.close_remote(index, next, &mut || late += 1));
        assert_eq!(late, 1, "whoever takes the old request over reports it");
        slab.drain(&mut || panic!("reported already"));
        let (a, b) = (open(&slab, 0), open(&slab, 0));
        assert_eq!(a, (index, next + 1));
        assert_ne!(b.0, index, "the place came back once");
    }
}

// `update_flags` has no model here: loom lets a plain store slip in between the two halves of another thread's
// read-modify-write, which C++11 forbids, and reports what cannot happen. Miri checks it (`tests/stress.rs`).
#[cfg(loom)]
mod model {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::check;

    /// Drains and returns how many late requests there were; every place that comes back is a different one.
    fn settle(slab: &Slab, expected_free: usize) -> usize {
        let mut late = 0;
        slab.drain(&mut || late += 1);
        let mut places: Vec<u32> = (0..expected_free).map(|_| open(slab, 0).0).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), expected_free, "a place came back twice");
        late
    }

    #[test]
    fn loom_two_closes_of_one_record_are_one_close_and_one_report() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let (index, generation) = open(&slab, 1);
            let other = {
                let slab = Arc::clone(&slab);
                thread::spawn(move || slab.close_remote(index, generation, &mut || panic!("nothing came before")))
            };
            let own = slab.close_own(index, generation);
            let remote = other.join().unwrap();
            assert!(own || remote);
            let late = settle(&slab, 3);
            assert_eq!(usize::from(own) + usize::from(remote), 1 + late);
        });
    }

    #[test]
    fn loom_a_record_opened_in_a_place_with_an_old_request_closes_once() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let (index, generation) = open(&slab, 1);
            let other = {
                let slab = Arc::clone(&slab);
                thread::spawn(move || slab.close_remote(index, generation, &mut || panic!("nothing came before")))
            };
            let mut late = 0;
            let own = slab.close_own(index, generation);
            let (next_index, next) = {
                let place = slab.reserve(&mut || late += 1).expect("memory");
                let generation = place.publish(1, 0);
                (place.index, generation)
            };
            // As another thread would.
            assert!(slab.close_remote(next_index, next, &mut || late += 1));
            assert!(slab.read(next_index).is_none());
            let remote = other.join().unwrap();
            late += settle(&slab, 3);
            assert_eq!(usize::from(own) + usize::from(remote), 1 + late);
        });
    }

    #[test]
    fn loom_records_closed_by_two_other_threads_all_come_back() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let records = [open(&slab, 1), open(&slab, 2)];
            let workers = records.map(|(index, generation)| {
                let slab = Arc::clone(&slab);
                thread::spawn(move || assert!(slab.close_remote(index, generation, &mut || panic!("first"))))
            });
            let (third, generation) = open(&slab, 3);
            assert!(records.iter().all(|(index, _)| *index != third) || generation == 2);
            for worker in workers {
                worker.join().unwrap();
            }
            assert!(slab.close_own(third, generation));
            assert_eq!(settle(&slab, 4), 0);
        });
    }

    #[test]
    fn loom_two_other_threads_cannot_both_close_a_record() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let (index, generation) = open(&slab, 1);
            let close = |slab: &Arc<Slab>| {
                let slab = Arc::clone(slab);
                thread::spawn(move || slab.close_remote(index, generation, &mut || panic!("nothing came before")))
            };
            let (a, b) = (close(&slab), close(&slab));
            let closed = usize::from(a.join().unwrap()) + usize::from(b.join().unwrap());
            assert_eq!(closed, 1);
            assert_eq!(settle(&slab, 2), 0);
        });
    }

    #[test]
    fn loom_a_reader_never_sees_a_record_that_is_half_another() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let (index, generation) = open(&slab, 1);
            let reader = {
                let slab = Arc::clone(&slab);
                thread::spawn(move || {
                    if let Some(copied) = slab.read(index) {
                        let value = u64::from(state::generation(copied.state));
                        assert_eq!((copied.words[1], copied.words[2]), (value, value));
                    }
                })
            };
            assert!(slab.close_own(index, generation));
            assert_eq!(open(&slab, 2), (index, 2));
            reader.join().unwrap();
        });
    }
}
