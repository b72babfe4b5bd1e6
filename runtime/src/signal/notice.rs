//! What guests' runtimes tell each other: that one has written, or wants to write, to the other's memory.
//!
//! A notice is a SIGSEGV, because that is caught in every guest and never blocked. A second one is lost while the first
//! waits, as with all standard signals: so nothing may depend on a notice's contents but what its sender repeats.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::SigInfo;

/// si_code of notices; no kernel and no C library sends it.
const CODE: i32 = -0x786c;
/// Words of `siginfo_t` behind the sender's process and user number: the mark, and the range.
const WORDS: usize = 24;
const MARK_WRITTEN: u64 = 0x786c_6174_6520_0001;
const MARK_WILL_BE: u64 = 0x786c_6174_6520_0002;

/// A notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Some of the memory has been written to, whatever its protection.
    Written,
    /// This range is to be written to, and mustn't be write-protected because of its translations.
    WillBeWritten { start: u64, len: u64 },
}

/// Notices that have arrived. The handler writes them, the guest's loop takes them.
static WRITTEN: AtomicBool = AtomicBool::new(false);
/// The last range; zero for none.
static RANGE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

impl Notice {
    /// Sends it to another process; false if that fails.
    pub fn send(self, pid: i32) -> bool {
        let info = self.encode();
        // SAFETY: the structure is the kernel's `siginfo_t`; no other memory is involved.
        unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, libc::SIGSEGV, &raw const info) == 0 }
    }

    fn encode(self) -> SigInfo {
        let mut info = SigInfo::fault(libc::SIGSEGV, CODE, 0);
        info.0[16..20].copy_from_slice(&(std::process::id() as i32).to_le_bytes());
        let words = match self {
            Self::Written => [MARK_WRITTEN, 0, 0],
            Self::WillBeWritten { start, len } => [MARK_WILL_BE, start, len],
        };
        for (n, word) in words.into_iter().enumerate() {
            info.0[WORDS + 8 * n..WORDS + 8 * n + 8].copy_from_slice(&word.to_le_bytes());
        }
        info
    }

    /// What a signal says, if it is a notice.
    pub(super) fn decode(info: &SigInfo) -> Option<Self> {
        if info.signal() != libc::SIGSEGV || info.code() != CODE {
            return None;
        }
        let word = |n: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&info.0[WORDS + 8 * n..WORDS + 8 * n + 8]);
            u64::from_le_bytes(bytes)
        };
        match word(0) {
            MARK_WRITTEN => Some(Self::Written),
            MARK_WILL_BE => Some(Self::WillBeWritten { start: word(1), len: word(2) }),
            _ => None,
        }
    }

    /// Notes it; for the signal handler.
    pub(super) fn note(self) {
        match self {
            Self::Written => WRITTEN.store(true, Ordering::Release),
            Self::WillBeWritten { start, len } => {
                RANGE[0].store(start, Ordering::Relaxed);
                RANGE[1].store(len, Ordering::Release);
            }
        }
    }

    /// Takes one that was noted.
    pub fn take() -> Option<Self> {
        if WRITTEN.swap(false, Ordering::Acquire) {
            return Some(Self::Written);
        }
        // A range that is being replaced meanwhile may be taken for another one: its sender asks again.
        match RANGE[1].swap(0, Ordering::Acquire) {
            0 => None,
            len => Some(Self::WillBeWritten { start: RANGE[0].load(Ordering::Relaxed), len }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_told_from_other_signals() {
        for notice in [Notice::Written, Notice::WillBeWritten { start: 0x1000, len: 6 }] {
            assert_eq!(Notice::decode(&notice.encode()), Some(notice));
        }
        assert_eq!(Notice::decode(&SigInfo::fault(libc::SIGSEGV, CODE, MARK_WRITTEN)), None, "the mark is elsewhere");
        let mut other = Notice::Written.encode();
        other.0[8..12].copy_from_slice(&libc::SI_QUEUE.to_le_bytes());
        assert_eq!(Notice::decode(&other), None);
    }

    #[test]
    fn what_was_noted_is_taken_once() {
        let range = Notice::WillBeWritten { start: 0x1000, len: 6 };
        range.note();
        Notice::Written.note();
        assert_eq!([Notice::take(), Notice::take(), Notice::take()], [Some(Notice::Written), Some(range), None]);
    }
}
