//! When the dispatcher looks for what other processes have made for the guest: each look is a system call.

use std::time::{Duration, Instant};

/// The clock is asked once in so many rounds of the dispatcher, or interpreted blocks.
const ROUNDS: u32 = 64;
const BLOCKS: u64 = 4096;
/// Time between two looks at the least.
const SPACE: Duration = Duration::from_micros(500);

/// The time since the last look.
#[derive(Default)]
pub struct Pace {
    rounds: u32,
    blocks: u64,
    last: Option<Instant>,
}

impl Pace {
    /// Another round of the dispatcher; `blocks` were interpreted so far. Whether it is time for a look.
    #[inline]
    pub fn is_due(&mut self, blocks: u64) -> bool {
        self.rounds += 1;
        if self.rounds < ROUNDS && blocks.wrapping_sub(self.blocks) < BLOCKS {
            return false;
        }
        (self.rounds, self.blocks) = (0, blocks);
        let now = Instant::now();
        let due = self.last.is_none_or(|last| now.duration_since(last) >= SPACE);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_blocks_count() {
        let mut pace = Pace::default();
        assert!((1..ROUNDS).all(|_| !pace.is_due(0)) && pace.is_due(0));
        assert!(Pace::default().is_due(BLOCKS) && !Pace::default().is_due(BLOCKS - 1));
    }

    #[test]
    fn looks_have_time_between_them() {
        let mut pace = Pace { last: Some(Instant::now() + Duration::from_secs(3600)), ..Pace::default() };
        assert!(!pace.is_due(BLOCKS));
        pace.last = None;
        assert!(pace.is_due(2 * BLOCKS));
    }
}
