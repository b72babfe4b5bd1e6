//! What x86 says of a fault, from what the host said, the instruction and the guest's memory.
//!
//! Hosts differ in what they tell, and translated code accesses memory in other ways than the instruction would. So the
//! instruction is decoded once more, and its operands' addresses are computed from the registers, which are precise if
//! anybody may look at them.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use xlate_abi::state::{CpuState, RSP, Trap};
use xlate_x86::accesses::{self, Access};
use xlate_x86::segments::is_emulated_by_linux;

use super::{Fault, VECTOR_PAGE_FAULT, code};
use crate::memory::{Backing, Memory};

/// Bits of a page fault's error code (Intel SDM vol. 3, 4.7).
mod error {
    pub const PRESENT: u64 = 1;
    pub const WRITE: u64 = 2;
    pub const USER: u64 = 4;
    pub const FETCH: u64 = 16;
}

/// What is needed to judge a fault.
pub struct View<'a> {
    pub state: &'a CpuState,
    pub memory: &'a Memory,
    /// Whether the registers are those at the fault.
    pub precise: bool,
}

/// Longest instruction (Intel SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;
/// The first address that no program can have; Linux tells of no page beyond whether it is there (arch/x86/mm/fault.c:
/// `set_signal_archinfo`).
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// Whether bits 63 to 47 are equal.
pub fn is_canonical(addr: u64) -> bool {
    (addr as i64) << 16 >> 16 == addr as i64
}

impl View<'_> {
    // ---- fetches ---------------------------------------------------------------------------------------

    /// The fault of fetching the instruction at `rip`: of its first byte that can't be fetched.
    pub fn fetch(&self) -> Fault {
        let rip = self.state.rip;
        if !is_canonical(rip) {
            // Only a return from a signal or a jump that nobody looks at leads here.
            return Fault::trap(Trap::GeneralProtection, self.state);
        }
        let mut bytes = [0; LONGEST];
        let at = rip.wrapping_add(self.memory.fetch(rip, &mut bytes) as u64);
        let fault = |signal, code, present| Fault {
            err: error::USER | error::FETCH | present,
            cr2: at,
            ..Fault::exception(signal, code, at, VECTOR_PAGE_FAULT)
        };
        match self.memory.protection(at) {
            None => fault(libc::SIGSEGV, code::SEGV_MAPERR, u64::from(at >= TASK_SIZE)),
            // Linux takes the fetch for a load until the page is there (arch/x86/mm/fault.c: `access_error`).
            Some(prot) if prot & libc::PROT_EXEC == 0 => {
                fault(libc::SIGSEGV, code::SEGV_ACCERR, u64::from(prot != libc::PROT_NONE) * error::PRESENT)
            }
            Some(_) => match self.memory.region_at(at).map(|region| &region.backing) {
                // After the end of the mapped file.
                Some(Backing::File { .. }) => fault(libc::SIGBUS, code::BUS_ADRERR, 0),
                // A guard (madvise(2), MADV_GUARD_INSTALL).
                _ => fault(libc::SIGSEGV, code::SEGV_MAPERR, 0),
            },
        }
    }

    /// What bytes that are no instruction raise: #GP if it is the length that is wrong.
    pub fn undefined(&self) -> Fault {
        let mut bytes = [0; 2 * LONGEST];
        let n = self.memory.fetch(self.state.rip, &mut bytes);
        let trap = if is_too_long(&bytes[..n]) { Trap::GeneralProtection } else { Trap::InvalidOpcode };
        Fault::trap(trap, self.state)
    }

    // ---- data ------------------------------------------------------------------------------------------

    /// A data access's fault as x86 tells it.
    pub fn data(&self, host: Fault) -> Fault {
        if !matches!(host.info.signal(), libc::SIGSEGV | libc::SIGBUS) {
            return host;
        }
        let Some(i) = self.instruction() else { return host };
        let is_protection = matches!(host.trapno, 12 | 13) || !is_canonical(host.info.addr());
        let mut operands = accesses::of(&i, self.state);
        if !self.precise {
            if is_protection {
                return self.by_segment(&i);
            }
            // The registers may be older ones: what counts is what fits the host's address, which may lack a tag.
            operands.retain(|o| same_without_tag(o.start, host.info.addr()));
        }
        if is_emulated_by_linux(&i)
            && let Some(operand) = operands.first()
        {
            return by_the_kernel(operand.start);
        }
        // Loads come first.
        let mut bad = operands.iter().filter(|o| !is_canonical(o.start) || !is_canonical(o.last()));
        if let Some(operand) = bad.clone().find(|o| !o.writes).or_else(|| bad.next()) {
            return self.noncanonical(operand.in_stack_segment);
        }
        if is_protection {
            return self.by_segment(&i);
        }
        if self.precise { self.page_fault(host, &operands) } else { host }
    }

    /// The instruction at `rip`.
    fn instruction(&self) -> Option<Instruction> {
        let mut bytes = [0; LONGEST];
        let n = self.memory.fetch(self.state.rip, &mut bytes);
        let i = Decoder::with_ip(64, &bytes[..n], self.state.rip, DecoderOptions::NONE).decode();
        (!i.is_invalid()).then_some(i)
    }

    fn noncanonical(&self, in_stack_segment: bool) -> Fault {
        let trap = if in_stack_segment { Trap::StackFault } else { Trap::GeneralProtection };
        Fault { err: 0, ..Fault::trap(trap, self.state) }
    }

    /// #GP or #SS where it isn't known which operand was at fault.
    fn by_segment(&self, i: &Instruction) -> Fault {
        let operands = accesses::of(i, self.state);
        let all = !operands.is_empty() && operands.iter().all(|o| o.in_stack_segment);
        let either = operands.iter().any(|o| o.in_stack_segment) && !is_canonical(self.state.gpr[RSP]);
        self.noncanonical(all || either)
    }

    /// The page fault that x86 raises where the host raised one.
    fn page_fault(&self, host: Fault, operands: &[Access]) -> Fault {
        // The host may have cut a tag off an address.
        let beyond = operands.iter().find(|o| o.start >= TASK_SIZE);
        let addr = beyond.map_or(host.info.addr(), |o| o.start);
        // A read-modify-write is a write from its load on, and one of them may access what is beside its operand (BTS).
        let write = match operands.iter().find(|o| o.contains(addr)) {
            Some(operand) => operand.writes,
            None if operands.iter().all(|o| o.writes) => true,
            None => host.err & error::WRITE != 0,
        };
        let (signal, code) = match beyond {
            Some(_) => (libc::SIGSEGV, code::SEGV_MAPERR),
            None => (host.info.signal(), host.info.code()),
        };
        let present = match signal {
            libc::SIGBUS => 0,
            _ if cfg!(target_arch = "x86_64") => host.err & error::PRESENT,
            _ => self.present(addr),
        };
        let write = u64::from(write) * error::WRITE;
        Fault {
            err: error::USER | write | present,
            cr2: addr,
            ..Fault::exception(signal, code, addr, VECTOR_PAGE_FAULT)
        }
    }

    /// The error code's bit that says that the page is there and refuses the access.
    fn present(&self, addr: u64) -> u64 {
        let there = match self.memory.protection(addr) {
            None => addr >= TASK_SIZE,
            Some(libc::PROT_NONE) => false,
            Some(_) => is_resident(addr),
        };
        u64::from(there) * error::PRESENT
    }
}

/// Whether two addresses differ at most in the byte that AArch64 ignores.
fn same_without_tag(a: u64, b: u64) -> bool {
    a << 8 == b << 8
}

/// What Linux raises where it can't write an instruction's result for the program (arch/x86/kernel/umip.c).
fn by_the_kernel(addr: u64) -> Fault {
    Fault {
        err: error::USER | error::WRITE,
        cr2: addr,
        ..Fault::exception(libc::SIGSEGV, code::SEGV_MAPERR, addr, VECTOR_PAGE_FAULT)
    }
}

/// Whether the page is in memory: bit 63 of its entry in the kernel's list (Documentation/admin-guide/mm/pagemap.rst).
fn is_resident(addr: u64) -> bool {
    use std::os::unix::fs::FileExt;
    let mut entry = [0; 8];
    let page = addr / crate::memory::host_page_size();
    let read = std::fs::File::open("/proc/self/pagemap").and_then(|map| map.read_exact_at(&mut entry, page * 8));
    read.is_err() || u64::from_le_bytes(entry) >> 63 != 0
}

/// Whether these bytes would be an instruction if that might have more than 15: one whose surplus prefixes are left out is.
fn is_too_long(bytes: &[u8]) -> bool {
    let prefixes = bytes.iter().take_while(|b| is_prefix(**b)).count();
    (1..=prefixes).any(|left_out| {
        let i = Decoder::new(64, &bytes[left_out..], DecoderOptions::NONE).decode();
        !i.is_invalid() && left_out + i.len() > LONGEST
    })
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_make_an_instruction_too_long() {
        let nop = |prefixes: usize| [vec![0x66; prefixes], vec![0x90, 0x90]].concat();
        assert!(!is_too_long(&nop(14)));
        assert!(is_too_long(&nop(15)));
        // movabs with six prefixes, and bytes that are no instruction of any length.
        assert!(is_too_long(&[&[0x3e; 6][..], &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8]].concat()));
        assert!(!is_too_long(&[0x66, 0x06, 0x90, 0x90]));
    }

    #[test]
    fn canonical_addresses() {
        for (addr, canonical) in
            [(0, true), (0x7fff_ffff_ffff, true), (0x8000_0000_0000, false), (1 << 63, false), (u64::MAX, true)]
        {
            assert_eq!(is_canonical(addr), canonical, "{addr:#x}");
        }
    }
}
