//! What waits, the most urgent first.

use std::collections::{HashMap, VecDeque};

/// Steps of urgency.
const LEVELS: usize = 6;

/// Items by key. Among equally urgent ones the first come first.
pub struct Queue<T> {
    /// With each item its urgency.
    waiting: HashMap<u64, (usize, T)>,
    /// Keys by urgency. One whose item has another urgency, or is gone, means nothing.
    order: [VecDeque<u64>; LEVELS],
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), order: Default::default() }
    }
}

impl<T> Queue<T> {
    /// Items that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Appends an item that isn't urgent; gives the one that it takes the place of.
    pub fn push(&mut self, key: u64, item: T) -> Option<T> {
        self.order[0].push_back(key);
        self.waiting.insert(key, (0, item)).map(|(_, replaced)| replaced)
    }

    /// Makes an item more urgent by a step, if it still waits.
    pub fn urge(&mut self, key: u64) {
        let Some((level, _)) = self.waiting.get_mut(&key) else { return };
        if *level + 1 < LEVELS {
            *level += 1;
            self.order[*level].push_back(key);
        }
    }

    /// Takes the most urgent item out.
    pub fn pop(&mut self) -> Option<T> {
        for level in (0..LEVELS).rev() {
            while let Some(key) = self.order[level].pop_front() {
                if self.waiting.get(&key).is_some_and(|(its, _)| *its == level) {
                    return self.waiting.remove(&key).map(|(_, item)| item);
                }
            }
        }
        None
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut Queue<char>) -> String {
        core::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn urgent_items_come_first_and_others_in_their_order() {
        let mut queue = Queue::default();
        for (key, item) in [(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')] {
            assert_eq!(queue.push(key, item), None);
        }
        queue.urge(3);
        queue.urge(4);
        queue.urge(4);
        queue.urge(9);
        assert_eq!(all(&mut queue), "dcab");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn nothing_is_more_urgent_than_the_last_step() {
        let mut queue = Queue::default();
        queue.push(1, 'a');
        queue.push(2, 'b');
        (0..LEVELS + 3).for_each(|_| queue.urge(2));
        (0..LEVELS + 3).for_each(|_| queue.urge(1));
        assert_eq!(all(&mut queue), "ba");
    }

    #[test]
    fn an_item_in_anothers_place_starts_anew() {
        let mut queue = Queue::default();
        queue.push(1, 'a');
        queue.urge(1);
        queue.push(2, 'b');
        assert_eq!(queue.push(1, 'c'), Some('a'));
        assert_eq!(all(&mut queue), "cb");
        queue.push(1, 'd');
        queue.clear();
        assert_eq!(queue.pop(), None);
    }
}
