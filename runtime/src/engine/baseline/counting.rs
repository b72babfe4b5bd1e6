//! What counts a block's executions: machine code around what Cranelift makes, for the two more basic blocks that it
//! would need take it longer than the whole of a small block's code.
//!
//! In front of the code a cell is counted down; at zero, what is behind the code asks for promotion. By the block ABI
//! ([`crate::engine::entry`]) all registers but the arguments are free at a block's entry.

use super::Code;
use super::symbol::{Relocation, Symbol};

/// Has code count its executions and ask for the promotion of the block at `pc`. Its beginning stays a multiple of
/// `align` bytes behind that of the whole.
pub(super) fn add(code: &mut Code, pc: u64, align: usize) {
    let body = host::HEAD.len().next_multiple_of(align);
    let tail = body + code.bytes.len();
    let mut bytes = host::head(tail);
    bytes.extend(host::NOP.iter().cycle().take(body - host::HEAD.len()));
    bytes.append(&mut code.bytes);
    code.bytes = bytes;
    code.relocations.iter_mut().for_each(|r| r.offset += body as u32);
    code.pc_map.iter_mut().for_each(|row| row.host_offset += body as u32);
    let (rest, relocations) = host::tail(tail, pc);
    code.bytes.extend(rest);
    code.relocations.extend(relocations);
}

fn relocation(offset: usize, symbol: Symbol) -> Relocation {
    Relocation { offset: offset as u32, symbol }
}

#[cfg(target_arch = "x86_64")]
mod host {
    use super::{Relocation, Symbol, relocation};

    /// mov rax, CELL; dec qword [rax]; jz TAIL
    pub const HEAD: [u8; 19] = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0xff, 0x08, 0x0f, 0x84, 0, 0, 0, 0];
    const CELL: usize = 2;
    const DISTANCE: usize = 15;
    pub const NOP: [u8; 1] = [0x90];
    /// mov rsi, PC; mov rax, PROMOTE; jmp rax
    const TAIL: [u8; 22] = [0x48, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0];
    const PC: usize = 2;
    const PROMOTE: usize = 12;

    /// The code in front, with the other at `tail`.
    pub fn head(tail: usize) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        bytes[DISTANCE..].copy_from_slice(&((tail - HEAD.len()) as i32).to_le_bytes());
        bytes
    }

    /// The code behind, at `tail`, and what is to be filled in.
    pub fn tail(tail: usize, pc: u64) -> (Vec<u8>, [Relocation; 2]) {
        let mut bytes = TAIL.to_vec();
        bytes[PC..PC + 8].copy_from_slice(&pc.to_le_bytes());
        (bytes, [relocation(CELL, Symbol::Counter), relocation(tail + PROMOTE, Symbol::Promote)])
    }
}

#[cfg(target_arch = "aarch64")]
mod host {
    use super::{Relocation, Symbol, relocation};

    /// ldr x9, CELL; ldr x10, [x9]; subs x10, x10, #1; str x10, [x9]; b.eq TAIL
    pub const HEAD: [u8; 20] = words([0x5800_0009, 0xf940_012a, 0xf100_054a, 0xf900_012a, 0x5400_0000]);
    pub const NOP: [u8; 4] = 0xd503_201f_u32.to_le_bytes();
    /// ldr x3, PC; ldr x9, PROMOTE; br x9; then the values of CELL, PC and PROMOTE.
    const TAIL: [u8; 12] = words([0x5800_0003, 0x5800_0009, 0xd61f_0120]);
    const CELL: usize = TAIL.len();
    const PC: usize = CELL + 8;
    const PROMOTE: usize = PC + 8;

    const fn words<const N: usize, const BYTES: usize>(words: [u32; N]) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut n = 0;
        while n < BYTES {
            bytes[n] = words[n / 4].to_le_bytes()[n % 4];
            n += 1;
        }
        bytes
    }

    /// Fills in what the instruction at `from` refers to: a distance in words, in its bits 5 to 23 (LDR literal and B.cond,
    /// Arm ARM C6.2).
    fn point(bytes: &mut [u8], from: usize, distance: usize) {
        let place: &mut [u8; 4] = bytes[from..].first_chunk_mut().expect("an instruction is there");
        *place = (u32::from_le_bytes(*place) | (distance as u32 / 4) << 5).to_le_bytes();
    }

    /// The code in front, with the other at `tail`.
    pub fn head(tail: usize) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        point(&mut bytes, 0, tail + CELL);
        point(&mut bytes, 16, tail - 16);
        bytes
    }

    /// The code behind, at `tail`, and what is to be filled in.
    pub fn tail(tail: usize, pc: u64) -> (Vec<u8>, [Relocation; 2]) {
        let mut bytes = TAIL.to_vec();
        point(&mut bytes, 0, PC);
        point(&mut bytes, 4, PROMOTE - 4);
        bytes.resize(PC, 0);
        bytes.extend(pc.to_le_bytes());
        bytes.resize(PROMOTE + 8, 0);
        (bytes, [relocation(tail + CELL, Symbol::Counter), relocation(tail + PROMOTE, Symbol::Promote)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::baseline::symbol::relocate;
    use crate::engine::baseline::{Compiler, Options};
    use crate::engine::cache::CodeCache;
    use crate::engine::entry;
    use xlate_abi::protocol::PcMapRow;
    use xlate_abi::state::{CpuState, ExitReason, LinkSlot};
    use xlate_x86::decode::{SliceSource, decode_block};

    #[test]
    fn the_last_execution_asks_for_promotion_instead() {
        const PC: u64 = 0x1000;
        // inc rax; jmp short over the next instruction
        let source = SliceSource { address: PC, bytes: &[0x48, 0xff, 0xc0, 0xeb, 0x05] };
        let options = Options { counted: true, ..Options::default() };
        let mut code = Compiler::new().unwrap().compile(&decode_block(&source, PC, 64, false), options).unwrap();
        let slot = LinkSlot { code: entry::link_stub(), guest_pc: code.slots[0] };
        let mut cell = 3_u64;
        let relocations = code.relocations.into_iter().map(Some);
        assert!(relocate(&mut code.bytes, relocations, &[&raw const slot as u64], Some(&raw mut cell as u64)));
        let mut cache = CodeCache::new(1 << 16).unwrap();
        let place = cache.reserve(code.bytes.len(), code.align as usize).unwrap();
        cache.write(place, &code.bytes).unwrap();
        let mut state = CpuState {
            exit_stub: entry::exit_stub(),
            link_stub: entry::link_stub(),
            helpers: crate::engine::helpers::table().as_ptr() as u64,
            ..CpuState::default()
        };
        for (executed, reason, left) in
            [(1, ExitReason::Link, 2), (2, ExitReason::Link, 1), (2, ExitReason::Promote, 0)]
        {
            state.rip = 0;
            // SAFETY: code compiled for the block ABI just now; it touches the state, its slot and its cell.
            unsafe { entry::enter(&mut state, place.address) };
            // SAFETY: as above; the code has written to it behind the compiler's back.
            let cell = unsafe { (&raw const cell).read_volatile() };
            assert_eq!((state.gpr[0], state.exit_reason, cell), (executed, reason as u32, left));
        }
        assert_eq!(state.rip, PC);
    }

    #[test]
    fn all_that_refers_to_the_code_moves_with_it() {
        let mut code = Code {
            bytes: vec![0xcc; 24],
            align: 16,
            pc_map: vec![PcMapRow { host_offset: 4, guest_pc: 0x1000 }],
            relocations: vec![relocation(8, Symbol::Slot(0))],
            slots: vec![0x2000],
        };
        add(&mut code, 0x1000, 16);
        let moved = code.pc_map[0].host_offset as usize - 4;
        assert_eq!((moved, moved % 16), (32, 0));
        assert_eq!(code.bytes[moved..moved + 24], [0xcc; 24]);
        assert_eq!(code.relocations[0], relocation(8 + moved, Symbol::Slot(0)));
        assert_eq!(code.relocations.len(), 3);
        assert!(code.relocations.iter().all(|r| r.offset as usize + 8 <= code.bytes.len()));
    }
}
