//! Basic blocks: decoding with iced-x86, where a block ends, and which flags are live behind each instruction.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    RflagsBits,
};
use smallvec::SmallVec;

use crate::interpreter::{Interpreter, forms};
use crate::isa::{self, Semantics};
use crate::operands::Operands;

/// A set of flags, as a mask of iced-x86's `RflagsBits`.
pub type Flags = u32;

/// The flags that semantics track: the six status flags and DF.
pub const ALL_FLAGS: Flags = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF
    | RflagsBits::DF;

/// Most instructions in one block; a longer run is cut and goes on in the next block.
pub const MAX_BLOCK: usize = 64;

/// Where guest code is read from.
pub trait CodeSource {
    /// Copies executable guest memory at `pc` into the buffer; gives how many bytes there are, as many as fit (0: not
    /// executable).
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize;

    /// The same for a look at what may follow a block, which decides what flags the block keeps. A source that won't hear
    /// of it when that changes gives nothing.
    fn fetch_ahead(&self, pc: u64, buffer: &mut [u8]) -> usize {
        self.fetch(pc, buffer)
    }
}

/// Code from a slice of bytes at a given address.
#[derive(Clone, Copy, Debug)]
pub struct SliceSource<'a> {
    pub address: u64,
    pub bytes: &'a [u8],
}

impl CodeSource for SliceSource<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        let offset = pc.wrapping_sub(self.address);
        let Some(rest) = usize::try_from(offset).ok().and_then(|o| self.bytes.get(o..)) else {
            return 0;
        };
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        n
    }
}

/// What [`live_in`] sees of a source.
struct Ahead<'s>(&'s dyn CodeSource);

impl CodeSource for Ahead<'_> {
    fn fetch(&self, pc: u64, buffer: &mut [u8]) -> usize {
        self.0.fetch_ahead(pc, buffer)
    }
}

/// One decoded instruction of a block. It takes one line of the cache, which tier 0's speed depends on.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Insn {
    pub raw: Instruction,
    pub operands: Operands,
    /// The status flags among [`Self::live`] (DF always is), [`READS`] and [`POLLS`].
    live: u8,
    /// Its meaning for tier 0, which has no time to look it up at every execution.
    pub(crate) execute: Semantics<Interpreter>,
}

/// In [`Insn::live`]: the instruction reads status flags.
const READS: u8 = 0x80;

/// In [`Insn::live`]: code leaves behind the instruction if something waits, because it may have changed the instructions
/// that follow. It has DF's place: next to nothing overwrites that, so it counts as live everywhere.
const POLLS: u8 = RflagsBits::DF as u8;

/// The status flags in [`Insn::live`].
const STATUS: u8 = (ALL_FLAGS & !RflagsBits::DF) as u8;

const _: () = assert!(size_of::<Insn>() == 64 && STATUS & (READS | POLLS) == 0 && ALL_FLAGS < READS as Flags);

impl Insn {
    /// Flags that something behind this instruction may read.
    #[inline(always)]
    pub fn live(&self) -> Flags {
        Flags::from(self.live & STATUS) | RflagsBits::DF
    }

    /// Whether it reads status flags itself.
    #[inline(always)]
    pub fn reads_flags(&self) -> bool {
        self.live & READS != 0
    }

    /// Whether code leaves behind this instruction if something waits.
    #[inline(always)]
    pub fn polls(&self) -> bool {
        self.live & POLLS != 0
    }

    /// Flags that this instruction or something behind it may read.
    pub fn live_before(&self) -> Flags {
        before(&self.raw, self.live())
    }

    /// Says which flags those are.
    pub fn set_live(&mut self, live: Flags) {
        self.live = live as u8 & STATUS | self.live & !STATUS;
    }
}

/// Why a block ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockEnd {
    /// The last instruction transfers control by itself.
    Terminator,
    /// The block was cut; execution goes on behind it.
    FallThrough,
    /// The instruction behind the block is valid but not implemented.
    Unimplemented,
    /// The bytes behind the block are no instruction: #UD.
    Invalid,
    /// There is no executable memory behind the block.
    FetchFault,
}

/// A basic block.
#[derive(Clone, Debug)]
pub struct Block {
    pub pc: u64,
    pub insns: Box<[Insn]>,
    /// Length in bytes.
    pub len: u32,
    pub exit: BlockEnd,
    /// The guest's stores may change its instructions ([`decode_mutable`]).
    pub mutable: bool,
}

impl Block {
    /// The address behind the last instruction.
    #[inline]
    pub fn end(&self) -> u64 {
        self.pc.wrapping_add(self.len.into())
    }

    /// Whether nothing could be decoded at `pc` (`exit` tells why).
    pub fn is_empty(&self) -> bool {
        self.insns.is_empty()
    }

    /// The known addresses at which execution may go on, the taken side of a branch first.
    pub fn successors(&self) -> Vec<u64> {
        let Some(last) = self.insns.last().map(|i| &i.raw) else {
            return Vec::new();
        };
        if self.exit == BlockEnd::FallThrough {
            return vec![self.end()];
        }
        if self.exit != BlockEnd::Terminator {
            return Vec::new();
        }
        if repeats(last) || retries(last) {
            return vec![last.ip(), self.end()];
        }
        match last.flow_control() {
            FlowControl::ConditionalBranch => vec![last.near_branch_target(), self.end()],
            FlowControl::UnconditionalBranch | FlowControl::Call if is_direct(last) => {
                vec![last.near_branch_target()]
            }
            FlowControl::Next if falls_through(last) => vec![self.end()],
            _ => Vec::new(),
        }
    }
}

fn is_direct(i: &Instruction) -> bool {
    i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch64
}

/// Bytes that are fetched at a time; most blocks are shorter.
const WINDOW: usize = 96;

/// Decodes straight on from `pc` while `visit` wants more. False where no executable byte is, or an instruction's
/// missing tail isn't executable (the fetch faults); invalid ones are visited, with code `INVALID`.
fn decode_run(source: &dyn CodeSource, pc: u64, mut visit: impl FnMut(&Instruction) -> bool) -> bool {
    let mut at = pc;
    loop {
        let mut bytes = [0; WINDOW];
        let window = at;
        let n = source.fetch(window, &mut bytes);
        let mut decoder = Decoder::with_ip(64, &bytes[..n], window, DecoderOptions::NONE);
        loop {
            let i = decoder.decode();
            if i.is_invalid() && decoder.last_error() == iced_x86::DecoderError::NoMoreBytes {
                // Can't be at the start of a whole window: instructions have 15 bytes at most (Intel SDM vol. 2, 2.3.11).
                if at == window {
                    return false;
                }
                break;
            }
            if !visit(&i) {
                return true;
            }
            at = i.next_ip();
        }
    }
}

/// Whether it is a string instruction with a REP prefix: it does one step and branches to itself.
pub fn repeats(i: &Instruction) -> bool {
    i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix())
}

/// Whether it makes one attempt and branches to itself until that succeeds: LOCK NEG, for which no emitter has an
/// atomic operation.
pub fn retries(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Neg && i.has_lock_prefix()
}

/// Whether a block ends with this instruction.
pub fn ends_block(i: &Instruction) -> bool {
    !falls_through(i) || changes_fp_mode(i)
}

/// Whether an instruction that ends its block still goes on right behind it.
pub fn falls_through(i: &Instruction) -> bool {
    i.flow_control() == FlowControl::Next && !repeats(i) && !retries(i) && !isa::always_traps(i.code())
}

/// Instructions that change MXCSR: float operations must not be moved across them, so they end their block. Listed, for
/// decoding has no time to ask [`crate::Effects`]; whose test sees that none is missing.
pub(crate) fn changes_fp_mode(i: &Instruction) -> bool {
    matches!(
        i.mnemonic(),
        Mnemonic::Ldmxcsr
            | Mnemonic::Vldmxcsr
            | Mnemonic::Fxrstor
            | Mnemonic::Fxrstor64
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
    )
}

/// Decodes the basic block at `pc`, at most `max` instructions of it, with the flags live behind each.
/// `precise_flags` keeps all flags alive everywhere instead.
pub fn decode_block(source: &dyn CodeSource, pc: u64, max: usize, precise_flags: bool) -> Block {
    let mut block = decode_until(source, pc, max, |_| false);
    if !precise_flags {
        let out = live_out(source, &block);
        mark_live(&mut block.insns, out);
    }
    block
}

/// Decodes the basic block at `pc` in memory that the guest can write to. Behind every instruction that writes to memory
/// code has to see whether that has changed what follows: it leaves if something waits, or, if the block is to be `cut`,
/// the block ends. All flags are live everywhere, for other instructions may come to stand behind each.
pub fn decode_mutable(source: &dyn CodeSource, pc: u64, max: usize, cut: bool) -> Block {
    let mut factory = InstructionInfoFactory::new();
    let mut block = decode_until(source, pc, max, |i| cut && writes_memory(&mut factory, i));
    block.mutable = true;
    for insn in &mut block.insns {
        if writes_memory(&mut factory, &insn.raw) {
            insn.live |= POLLS;
        }
    }
    // What stands behind it now is no part of it: it may be something else when that is reached.
    if !block.is_empty() && block.exit != BlockEnd::Terminator {
        block.exit = BlockEnd::FallThrough;
    }
    block
}

/// Whether an instruction may write to memory.
fn writes_memory(factory: &mut InstructionInfoFactory, i: &Instruction) -> bool {
    let writes = [OpAccess::Write, OpAccess::CondWrite, OpAccess::ReadWrite, OpAccess::ReadCondWrite];
    factory.info(i).used_memory().iter().any(|used| writes.contains(&used.access()))
}

/// Decodes to the end of the basic block, behind an instruction that `cuts` it, or `max` of them, with all flags live.
fn decode_until(source: &dyn CodeSource, pc: u64, max: usize, mut cuts: impl FnMut(&Instruction) -> bool) -> Block {
    // Nearly all blocks have room here, and are kept with just as much as they need.
    let mut insns = SmallVec::<[Insn; 16]>::new();
    let mut exit = BlockEnd::FallThrough;
    let fetched = decode_run(source, pc, |raw| {
        if raw.code() == Code::INVALID {
            exit = BlockEnd::Invalid;
            return false;
        }
        let Some(general) = isa::semantics(raw) else {
            exit = BlockEnd::Unimplemented;
            return false;
        };
        let mut operands = Operands::of(raw);
        if isa::is_x87(raw.code()) {
            let mut bytes = [0; 15];
            let n = source.fetch(raw.ip(), &mut bytes[..raw.len()]);
            operands = operands.with_x87_opcode(&bytes[..n]);
        }
        let execute = forms::of(raw, &operands).unwrap_or(general);
        let reads = if flags_read(raw) & !RflagsBits::DF == 0 { 0 } else { READS };
        insns.push(Insn { raw: *raw, operands, live: STATUS | reads, execute });
        if ends_block(raw) {
            exit = BlockEnd::Terminator;
            return false;
        }
        insns.len() < max && !cuts(raw)
    });
    if !fetched {
        exit = BlockEnd::FetchFault;
    }
    let len = insns.last().map_or(0, |last| last.raw.next_ip().wrapping_sub(pc) as u32);
    Block { pc, insns: insns.as_slice().into(), len, exit, mutable: false }
}

/// Flags an instruction reads.
fn flags_read(i: &Instruction) -> Flags {
    i.rflags_read() & ALL_FLAGS
}

/// Flags an instruction overwrites whatever happens. iced-x86 counts a shift as writing flags even where its
/// count may be zero and it then leaves them alone (Intel SDM vol. 2, SAL/SAR/SHL/SHR), likewise REP CMPS/SCAS; and what
/// raises an exception here leaves them to its handler, and SYSCALL, which reads them all, to the runtime.
pub fn flags_killed(i: &Instruction) -> Flags {
    use Mnemonic::*;
    let may_keep = match i.mnemonic() {
        Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar => !fixed_nonzero_count(i, 1),
        Shld | Shrd => !fixed_nonzero_count(i, 2),
        Syscall => true,
        _ => repeats(i) || isa::always_traps(i.code()),
    };
    if may_keep { 0 } else { i.rflags_modified() & ALL_FLAGS }
}

fn fixed_nonzero_count(i: &Instruction, op: u32) -> bool {
    let width_mask = if i.op0_kind() == OpKind::Register && i.op0_register().size() == 8
        || i.op0_kind() == OpKind::Memory && i.memory_size().size() == 8
    {
        0x3f
    } else {
        0x1f
    };
    i.op_kind(op) != OpKind::Register && i.immediate(op) & width_mask != 0
}

fn mark_live(insns: &mut [Insn], out: Flags) {
    let mut live = out;
    for insn in insns.iter_mut().rev() {
        // Where it sets TF or AC, the flags are seen at the next instruction.
        live = if loads_flags(&insn.raw) { ALL_FLAGS } else { live };
        insn.set_live(live);
        live = before(&insn.raw, live);
    }
}

/// POPF and IRET.
fn loads_flags(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(i.mnemonic(), Popf | Popfd | Popfq | Iret | Iretd | Iretq)
}

/// Flags that an instruction or something behind it may read, where something behind it may read `live`.
pub fn before(i: &Instruction, live: Flags) -> Flags {
    live & !flags_killed(i) | flags_read(i)
}

/// How far [`live_in`] looks into a successor.
const LOOK_AHEAD: usize = 12;

/// Flags that may be read behind the block's end, found by a short look into its known successors.
fn live_out(source: &dyn CodeSource, block: &Block) -> Flags {
    let successors = block.successors();
    if successors.is_empty() {
        return ALL_FLAGS;
    }
    successors.into_iter().fold(0, |live, pc| live | live_in(source, pc))
}

/// Flags that code at `pc` may read before it overwrites them. Conservative: what a short straight look can't
/// settle counts as read. It ends where the status flags are settled, because next to nothing overwrites DF.
pub fn live_in(source: &dyn CodeSource, pc: u64) -> Flags {
    let mut undecided = ALL_FLAGS;
    let mut read = 0;
    let mut at = Some(pc);
    let mut left = LOOK_AHEAD;
    while let Some(pc) = at.take() {
        decode_run(&Ahead(source), pc, |i| {
            read |= flags_read(i) & undecided;
            let killed = flags_killed(i) & undecided;
            // One without a meaning raises an exception, whose handler sees the flags.
            if killed != 0 && !isa::is_implemented(i.code()) {
                return false;
            }
            undecided &= !killed;
            left -= 1;
            if undecided & !RflagsBits::DF == 0 || left == 0 {
                return false;
            }
            match i.flow_control() {
                FlowControl::Next => falls_through(i) && !i.is_invalid(),
                FlowControl::UnconditionalBranch | FlowControl::Call if is_direct(i) => {
                    at = Some(i.near_branch_target());
                    false
                }
                _ => false,
            }
        });
    }
    read | undecided
}

/// Jumps and calls to an address that the code computes.
pub fn leads_anywhere(i: &Instruction) -> bool {
    matches!(i.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall)
}

/// Whether it calls a known address.
pub fn calls_directly(i: &Instruction) -> bool {
    i.flow_control() == FlowControl::Call && is_direct(i)
}
