//! RLIMIT_AS and RLIMIT_DATA, which the guest's mappings alone count against: the host would count the translator's
//! own as well. So they are kept here and the host's are lifted, as far as this user may; before an exec the host gets the
//! guest's again, because the next program reads them there.

use std::ffi::c_int;

/// One limit, in bytes (RLIM_INFINITY for none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

impl Limit {
    pub const NONE: Self = Self { soft: libc::RLIM_INFINITY, hard: libc::RLIM_INFINITY };

    /// Whether so many bytes are within it.
    pub fn allows(self, bytes: u64) -> bool {
        bytes <= self.soft
    }

    /// What the host limits this process to.
    pub fn of_host(resource: c_int) -> Self {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid place for the result. (Through syscall, because libc's type of the resource differs.)
        let got = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0usize, &raw mut limit) };
        if got == 0 { Self { soft: limit.rlim_cur, hard: limit.rlim_max } } else { Self::NONE }
    }

    /// Makes it the host's; false if this user may not.
    fn set_on_host(self, resource: c_int) -> bool {
        let limit = libc::rlimit { rlim_cur: self.soft, rlim_max: self.hard };
        // SAFETY: the kernel only reads the limit.
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, 0usize) == 0 }
    }

    /// Lifts the host's: altogether, or up to the hard one.
    fn lift(self, resource: c_int) {
        let lifted = self.hard != libc::RLIM_INFINITY && Self::NONE.set_on_host(resource);
        if !lifted && self.soft != self.hard {
            Self { soft: self.hard, ..self }.set_on_host(resource);
        }
    }
}

/// The limits that are kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub space: Limit,
    pub data: Limit,
}

impl Limits {
    pub const NONE: Self = Self { space: Limit::NONE, data: Limit::NONE };

    /// Takes over what the process was started with.
    pub fn take_over() -> Self {
        let limits =
            Self { space: Limit::of_host(libc::RLIMIT_AS as c_int), data: Limit::of_host(libc::RLIMIT_DATA as c_int) };
        limits.lift();
        limits
    }

    /// Lifts the host's limits, so that these alone count.
    pub fn lift(&self) {
        self.space.lift(libc::RLIMIT_AS as c_int);
        self.data.lift(libc::RLIMIT_DATA as c_int);
    }

    /// Makes these the host's: before an exec.
    pub fn give_back(&self) {
        for (limit, resource) in [(self.space, libc::RLIMIT_AS as c_int), (self.data, libc::RLIMIT_DATA as c_int)] {
            if Limit::of_host(resource) != limit && !limit.set_on_host(resource) {
                tracing::warn!(resource, "the program's limit can't be handed over");
            }
        }
    }

    /// The limit of a resource that is kept here.
    pub fn kept(&mut self, resource: c_int) -> Option<&mut Limit> {
        match resource {
            r if r == libc::RLIMIT_AS as c_int => Some(&mut self.space),
            r if r == libc::RLIMIT_DATA as c_int => Some(&mut self.data),
            _ => None,
        }
    }
}
