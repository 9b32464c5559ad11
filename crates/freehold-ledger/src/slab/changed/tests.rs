use super::super::nth;
use super::*;

fn open(slab: &Slab) -> (u32, u32) {
    let place = slab.reserve(&mut || panic!("nothing was closed twice")).expect("memory");
    let generation = place.publish(1, 0);
    (place.index, generation)
}

/// What a question keeps, as the index does: the note of each block, and the live generation in each place.
#[derive(Default)]
struct Asked {
    notes: Vec<u64>,
    of: Vec<u32>,
}

impl Asked {
    /// Looks at what changed and returns the blocks that it looked at.
    fn ask(&mut self, slab: &Slab) -> Vec<usize> {
        let mut looked = Vec::new();
        slab.each_block(|block, note, places| {
            self.notes.resize(self.notes.len().max(block + 1), 0);
            if self.notes[block] != note {
                self.notes[block] = note;
                self.of.resize(self.of.len().max(places.end as usize), 0);
                places.for_each(|n| self.of[n as usize] = slab.live_generation(nth(n)));
                looked.push(block);
            }
            true
        });
        looked
    }

    fn generation(&self, index: u32) -> u32 {
        self.of.get(number(index) as usize).copied().unwrap_or(0)
    }
}

#[cfg(not(loom))]
mod plain {
    use super::*;

    #[test]
    fn the_blocks_have_every_place_once_and_in_order() {
        let slab = Slab::new();
        assert!(slab.notes().is_empty());
        let places = if cfg!(miri) { 30 } else { 3000 };
        let last = (0..places).map(|_| open(&slab).0).last().expect("opened");
        let (mut blocks, mut end) = (0, 0);
        slab.each_block(|block, _, places| {
            assert_eq!((block, places.start), (blocks, end));
            assert!(!places.is_empty() && places.len() as u32 <= BLOCK);
            (blocks, end) = (blocks + 1, places.end);
            true
        });
        assert!(number(last) < end);
        assert_eq!(slab.notes().len(), blocks);
        let mut looked = 0;
        slab.each_block(|_, _, _| {
            looked += 1;
            looked < 3
        });
        assert_eq!(looked, 3, "it goes on after it was told not to");
    }

    #[test]
    fn a_question_looks_at_the_blocks_that_changed_and_at_no_other() {
        let slab = Slab::new();
        let mut asked = Asked::default();
        let records: Vec<(u32, u32)> = (0..4 * BLOCK).map(|_| open(&slab)).collect();
        let all = asked.ask(&slab);
        assert!(all.len() >= 4 && records.iter().all(|(index, generation)| asked.generation(*index) == *generation));
        assert!(asked.ask(&slab).is_empty());
        let block = |index: u32| {
            let mut found = None;
            slab.each_block(|block, _, places| {
                found = found.or(places.contains(&number(index)).then_some(block));
                true
            });
            found.expect("each place has a block")
        };
        let (own, other) = (records[0], records[records.len() - 1]);
        assert_ne!(block(own.0), block(other.0));
        assert!(slab.close_own(own.0, own.1));
        assert_eq!((asked.ask(&slab), asked.generation(own.0)), (vec![block(own.0)], 0));
        assert!(slab.close_remote(other.0, other.1, &mut || panic!("first")));
        assert_eq!((asked.ask(&slab), asked.generation(other.0)), (vec![block(other.0)], 0));
        // What is refused changes nothing.
        assert!(!slab.close_own(own.0, own.1) && !slab.close_remote(other.0, other.1, &mut || panic!("first")));
        assert!(asked.ask(&slab).is_empty());
        assert_eq!(open(&slab), (own.0, own.1 + 1));
        assert_eq!((asked.ask(&slab), asked.generation(own.0)), (vec![block(own.0)], own.1 + 1));
    }

    // In one order of events, because loom does not try it: behind the writer's own look at the state it forgets the looks
    // of others.
    #[test]
    fn a_request_that_was_served_since_the_state_was_read_is_a_close_too() {
        let slab = Slab::new();
        let (index, generation) = open(&slab);
        let slot = slab.slot(index).expect("there");
        assert!(!is_closed(slot, generation));
        assert!(slab.close_remote(index, generation, &mut || panic!("first")));
        assert!(is_closed(slot, generation));
        slab.drain(&mut || panic!("nothing was closed twice"));
        assert!(is_closed(slot, generation), "the request is gone, and what it closed too");
        assert_eq!(open(&slab), (index, generation + 1));
        assert!(is_closed(slot, generation) && !is_closed(slot, generation + 1));
    }
}

#[cfg(loom)]
mod model {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::check;

    #[test]
    fn loom_a_question_after_an_open_sees_it_whatever_one_beside_it_saw() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let first = open(&slab);
            let mut asked = Asked::default();
            asked.ask(&slab);
            let writer = {
                let slab = Arc::clone(&slab);
                thread::spawn(move || open(&slab))
            };
            asked.ask(&slab);
            let (index, generation) = writer.join().unwrap();
            asked.ask(&slab);
            assert_eq!((asked.generation(first.0), asked.generation(index)), (first.1, generation));
        });
    }

    #[test]
    fn loom_a_question_after_a_close_and_an_open_sees_both() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let (index, generation) = open(&slab);
            let mut asked = Asked::default();
            asked.ask(&slab);
            let writer = {
                let slab = Arc::clone(&slab);
                thread::spawn(move || {
                    assert!(slab.close_own(index, generation));
                    // In the same place.
                    open(&slab)
                })
            };
            asked.ask(&slab);
            let again = writer.join().unwrap();
            asked.ask(&slab);
            assert_eq!((again.0, asked.generation(index)), (index, again.1));
        });
    }

    #[test]
    fn loom_no_close_is_lost_when_two_other_threads_close_beside_a_question() {
        check(|| {
            let slab = Arc::new(Slab::new());
            // In one block.
            let records = [open(&slab), open(&slab)];
            let mut asked = Asked::default();
            asked.ask(&slab);
            let closers = records.map(|(index, generation)| {
                let slab = Arc::clone(&slab);
                thread::spawn(move || assert!(slab.close_remote(index, generation, &mut || panic!("first"))))
            });
            asked.ask(&slab);
            for closer in closers {
                closer.join().unwrap();
            }
            asked.ask(&slab);
            assert_eq!(records.map(|(index, _)| asked.generation(index)), [0, 0]);
        });
    }

    #[test]
    fn loom_a_close_is_seen_while_the_writer_recycles_its_place() {
        check(|| {
            let slab = Arc::new(Slab::new());
            let (index, generation) = open(&slab);
            let mut asked = Asked::default();
            asked.ask(&slab);
            let closer = {
                let slab = Arc::clone(&slab);
                thread::spawn(move || {
                    assert!(slab.close_remote(index, generation, &mut || panic!("first")));
                    asked.ask(&slab);
                    assert_eq!(asked.generation(index), 0);
                })
            };
            slab.drain(&mut || panic!("nothing was closed twice"));
            closer.join().unwrap();
        });
    }
}
