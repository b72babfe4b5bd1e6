//! How large a region is or may get: what bounds the time that it takes to compile.

use std::fmt;

use serde::{Deserialize, Serialize};
use xlate_abi::protocol::CompileRequest;
use xlate_x86::decode::MAX_BLOCK;

/// A region's size, or a limit to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionSize {
    pub blocks: usize,
    pub instructions: usize,
}

impl RegionSize {
    /// The usual limit. LLVM's time grows a little faster than linearly; with so many instructions a region takes a
    /// quarter of a second. The hot part of a formatted print just fits. The blocks count in regions of very short ones.
    pub const MOST: Self = Self { blocks: 220, instructions: 640 };

    /// The limit where a region takes a smaller one's place: large interpreters' loops fit. LLVM takes a second for it.
    const GROWN: Self = Self { blocks: 700, instructions: 2000 };

    /// One block, whatever its length.
    const BLOCK: Self = Self { blocks: 1, instructions: MAX_BLOCK };

    /// Regions aren't halved further than to so many instructions, for that is about a block.
    const SMALLEST: usize = 32;

    /// The limit for a request's region.
    pub fn for_request(request: &CompileRequest) -> Self {
        if request.grows { Self::GROWN } else { Self::MOST }
    }

    /// The limit to try where a region of this size was too much; none where it was a single block.
    pub fn halved(self) -> Option<Self> {
        let half = Self { blocks: self.blocks / 2, instructions: self.instructions / 2 };
        match self.blocks {
            0 | 1 => None,
            _ if half.instructions < Self::SMALLEST => Some(Self::BLOCK),
            _ => Some(half),
        }
    }
}

impl fmt::Display for RegionSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.blocks == 1 { "" } else { "s" };
        write!(f, "{} instructions in {} block{plural}", self.instructions, self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_ends_with_a_single_block() {
        let steps = std::iter::successors(Some(RegionSize::MOST), |size| size.halved());
        let steps: Vec<_> = steps.map(|s| (s.blocks, s.instructions)).collect();
        assert_eq!(steps, [(220, 640), (110, 320), (55, 160), (27, 80), (13, 40), (1, MAX_BLOCK)]);
        assert_eq!(RegionSize { blocks: 3, instructions: 6 }.halved(), Some(RegionSize::BLOCK));
        assert_eq!(RegionSize { blocks: 3, instructions: 180 }.halved().map(|s| s.blocks), Some(1));
    }
}
