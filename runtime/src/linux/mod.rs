//! The guest's system calls.

use std::path::PathBuf;

use xlate_abi::state::RAX;

use crate::guest::Guest;

/// How the guest goes on after a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At `rip`, with the result in rax.
    Done,
    /// A signal interrupted the call: rax holds -EINTR and `rip` is behind the call. If no handler of the
    /// guest runs now, or if it was installed with SA_RESTART and `restart` is set, [`restart`] makes the call again.
    Interrupted { restart: bool },
    /// The handler has written all registers, rax among them.
    RegistersReplaced,
    /// Not at all: the guest has ended with this status.
    Exited(i32),
}

/// What the system calls keep between calls.
pub struct Kernel {
    pub exe: PathBuf,
    number: u64,
}

/// Serves the system call the guest's registers ask for; `rip` is already behind the instruction.
pub fn dispatch(guest: &mut Guest) -> Outcome {
    guest.kernel.number = guest.state.gpr[RAX];
    eprintln!("xlate: system call {} isn't supported", guest.kernel.number);
    guest.state.gpr[RAX] = -i64::from(libc::ENOSYS) as u64;
    Outcome::Done
}

/// Makes the guest repeat the call it has just made.
pub fn restart(guest: &mut Guest) {
    guest.state.rip = guest.state.rip.wrapping_sub(2);
    guest.state.gpr[RAX] = guest.kernel.number;
}
