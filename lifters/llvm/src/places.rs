//! Which of a region's blocks stands for an address, seen from where.

use std::collections::HashMap;

use crate::{CompileError, RegionBlock};

/// Indices of a region's blocks by where they stand.
#[derive(Debug, Default)]
pub struct Places {
    /// By frame and address.
    shared: HashMap<(usize, u64), usize>,
    /// Copies, by the block they are for and likewise.
    copies: HashMap<(usize, usize, u64), usize>,
}

impl Places {
    /// Fails where two blocks stand in one place.
    pub fn of(blocks: &[RegionBlock]) -> Result<Self, CompileError> {
        let mut places = Self::default();
        for (index, b) in blocks.iter().enumerate() {
            let (frame, pc) = (b.frame, b.block.pc);
            let displaced = match b.copy_for {
                Some(from) => places.copies.insert((from, frame, pc), index),
                None => places.shared.insert((frame, pc), index),
            };
            if displaced.is_some() {
                return Err(CompileError::DuplicateBlock(pc));
            }
        }
        Ok(places)
    }

    /// The block at an address in a frame for one that comes from the block `from`.
    pub fn from(&self, from: usize, frame: usize, pc: u64) -> Option<usize> {
        let copy = self.copies.get(&(from, frame, pc));
        copy.copied().or_else(|| self.shared(frame, pc))
    }

    /// The same for those that come from elsewhere.
    pub fn shared(&self, frame: usize, pc: u64) -> Option<usize> {
        self.shared.get(&(frame, pc)).copied()
    }
}
