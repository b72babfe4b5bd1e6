//! The guest's calls that a region follows: the callee's blocks stand in place of the call, and its return goes on
//! inside, guarded by one comparison.
//!
//! A block belongs to one activation of a guest function, its *frame*: the same address may stand in a region once for
//! each call that leads there. Frame 0 is the region's own, which was entered by a call of the host's; the others have
//! no frame on the host's stack. Where code inside one leaves the region, it leaves by a call of the host's, so
//! that the guest's return finds its way back.

/// A followed call: who called, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// The frame that called.
    pub caller: usize,
    /// The guest address behind the call.
    pub return_to: u64,
}

/// The frames of a region.
#[derive(Clone, Debug, Default)]
pub struct Frames(Vec<Call>);

impl Frames {
    /// The region's own frame.
    pub const OWN: usize = 0;

    /// The call that made a frame; `None` for the region's own.
    pub fn call(&self, frame: usize) -> Option<Call> {
        frame.checked_sub(1).map(|n| self.0[n])
    }

    /// The frame that a call from `caller` makes, if it is followed.
    pub fn callee(&self, caller: usize, return_to: u64) -> Option<usize> {
        self.0.iter().position(|c| *c == Call { caller, return_to }).map(|n| n + 1)
    }

    /// Follows a call; gives its frame.
    pub fn follow(&mut self, caller: usize, return_to: u64) -> usize {
        self.callee(caller, return_to).unwrap_or_else(|| {
            self.0.push(Call { caller, return_to });
            self.0.len()
        })
    }

    /// Calls between the region's own frame and this one.
    pub fn depth(&self, frame: usize) -> usize {
        std::iter::successors(self.call(frame), |c| self.call(c.caller)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_makes_one_frame() {
        let mut frames = Frames::default();
        let a = frames.follow(Frames::OWN, 0x10);
        let b = frames.follow(a, 0x10);
        assert_eq!(frames.follow(Frames::OWN, 0x10), a);
        assert_ne!(a, b);
        assert_eq!(frames.callee(a, 0x10), Some(b));
        assert_eq!(frames.callee(b, 0x10), None);
        assert_eq!(frames.call(b), Some(Call { caller: a, return_to: 0x10 }));
        assert_eq!([Frames::OWN, a, b].map(|f| frames.depth(f)), [0, 1, 2]);
    }
}
