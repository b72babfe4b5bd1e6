//! Basic blocks: decoding with iced-x86, where a block ends, and which flags are live behind each instruction.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register, RflagsBits};
use smallvec::SmallVec;

use xlate_abi::protocol::FlagRule;

use crate::interpreter::{Interpreter, forms};
use crate::isa::{self, Semantics};
use crate::operands::Operands;
use crate::system;

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

/// One decoded instruction of a block. It takes one line of the cache, which tier 0's speed depends on.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Insn {
    pub raw: Instruction,
    pub operands: Operands,
    /// [`Self::live`], which has no more than eight bits.
    live: u8,
    /// Its meaning for tier 0, which has no time to look it up at every execution.
    pub(crate) execute: Semantics<Interpreter>,
}

const _: () = assert!(size_of::<Insn>() == 64 && ALL_FLAGS <= u8::MAX as Flags);

impl Insn {
    /// Flags that something behind this instruction may read.
    #[inline(always)]
    pub fn live(&self) -> Flags {
        self.live.into()
    }

    /// Flags that this instruction or something behind it may read.
    pub fn live_before(&self) -> Flags {
        before(&self.raw, self.live())
    }

    /// Says which flags those are.
    pub fn set_live(&mut self, live: Flags) {
        self.live = (live & ALL_FLAGS) as u8;
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
    i.flow_control() == FlowControl::Next && !repeats(i) && !retries(i) && !system::is_privileged(i.code())
}

/// Instructions that change MXCSR: float operations must not be moved across them, so they end their block.
fn changes_fp_mode(i: &Instruction) -> bool {
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

/// [`decode_block_by`] the exact rule.
pub fn decode_block(source: &dyn CodeSource, pc: u64, max: usize, precise_flags: bool) -> Block {
    decode_block_by(FlagRule::Exact, source, pc, max, precise_flags)
}

/// Decodes the basic block at `pc`, at most `max` instructions of it, with the flags live behind each.
/// `precise_flags` keeps all flags alive everywhere instead, but for what the rule says of returns and calls.
pub fn decode_block_by(rule: FlagRule, source: &dyn CodeSource, pc: u64, max: usize, precise_flags: bool) -> Block {
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
        insns.push(Insn { raw: *raw, operands, live: ALL_FLAGS as u8, execute });
        if ends_block(raw) {
            exit = BlockEnd::Terminator;
            return false;
        }
        insns.len() < max
    });
    if !fetched {
        exit = BlockEnd::FetchFault;
    }
    let len = insns.last().map_or(0, |last| last.raw.next_ip().wrapping_sub(pc) as u32);
    let mut block = Block { pc, insns: insns.as_slice().into(), len, exit };
    if !precise_flags {
        let out = live_out(rule, source, &block);
        mark_live(&mut block.insns, out);
    }
    block
}

/// Flags an instruction reads.
fn flags_read(i: &Instruction) -> Flags {
    i.rflags_read() & ALL_FLAGS
}

/// Flags an instruction overwrites whatever happens. iced-x86 counts a shift as writing flags even where its
/// count may be zero and it then leaves them alone (Intel SDM vol. 2, SAL/SAR/SHL/SHR), likewise REP CMPS/SCAS.
pub fn flags_killed(i: &Instruction) -> Flags {
    use Mnemonic::*;
    let may_keep = match i.mnemonic() {
        Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar => !fixed_nonzero_count(i, 1),
        Shld | Shrd => !fixed_nonzero_count(i, 2),
        _ => repeats(i),
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
        insn.set_live(live);
        live = before(&insn.raw, live);
    }
}

/// Flags that an instruction or something behind it may read, where something behind it may read `live`.
pub fn before(i: &Instruction, live: Flags) -> Flags {
    live & !flags_killed(i) | flags_read(i)
}

/// How far [`live_in`] looks into a successor.
const LOOK_AHEAD: usize = 12;

/// Flags that may be read behind the block's end, found by a short look into its known successors.
fn live_out(rule: FlagRule, source: &dyn CodeSource, block: &Block) -> Flags {
    if rule == FlagRule::Convention && block.insns.last().is_some_and(|i| crosses(&i.raw)) {
        return RflagsBits::DF;
    }
    let successors = block.successors();
    if successors.is_empty() {
        return ALL_FLAGS;
    }
    successors.into_iter().fold(0, |live, pc| live | live_in(rule, source, pc))
}

/// Flags that code at `pc` may read before it overwrites them. Conservative: what a short straight look can't
/// settle counts as read. It ends where the status flags are settled, for next to nothing overwrites DF.
pub fn live_in(rule: FlagRule, source: &dyn CodeSource, pc: u64) -> Flags {
    let mut undecided = ALL_FLAGS;
    let mut read = 0;
    let mut at = Some(pc);
    let mut left = LOOK_AHEAD;
    while let Some(pc) = at.take() {
        decode_run(source, pc, |i| {
            read |= flags_read(i) & undecided;
            undecided &= !flags_killed(i);
            left -= 1;
            if rule == FlagRule::Convention && crosses(i) {
                undecided &= RflagsBits::DF;
                return false;
            }
            if undecided & !RflagsBits::DF == 0 || left == 0 {
                return false;
            }
            match i.flow_control() {
                FlowControl::Next => falls_through(i) && !i.is_invalid(),
                FlowControl::UnconditionalBranch if is_direct(i) => {
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

/// Returns and calls: by the calling convention no status flag is kept across them. (iced-x86 counts system calls
/// as calls; they keep the flags.)
pub fn crosses(i: &Instruction) -> bool {
    match i.flow_control() {
        FlowControl::Return | FlowControl::IndirectCall => true,
        FlowControl::Call => is_direct(i),
        _ => false,
    }
}

/// Most instructions that [`reads_flags`] looks at. A function's first arithmetic writes all flags; few get as far.
const SEARCH: usize = 96;

/// Whether code at `pc` reads a status flag that it hasn't written itself, on any side of its branches, as far as
/// [`SEARCH`] instructions tell.
pub fn reads_flags(source: &dyn CodeSource, pc: u64) -> bool {
    let mut left = SEARCH;
    let mut found = false;
    let start = (pc, ALL_FLAGS & !RflagsBits::DF);
    // Where a path begins, and the flags that nothing on the way there has written.
    let mut begun = SmallVec::<[(u64, Flags); 8]>::from_slice(&[start]);
    let mut paths = begun.clone();
    while let Some((at, mut unwritten)) = paths.pop()
        && !found
        && left > 0
    {
        decode_run(source, at, |i| {
            // What it leaves in r11 nobody looks at (psABI, A.2.1: the kernel destroys it).
            if i.is_invalid() || i.mnemonic() == Mnemonic::Syscall {
                return false;
            }
            left -= 1;
            found = flags_read(i) & unwritten != 0;
            // Who reads flags behind a count doesn't expect it to be zero.
            unwritten &= !i.rflags_modified();
            if found || unwritten == 0 || left == 0 {
                return false;
            }
            let branches = i.flow_control() == FlowControl::ConditionalBranch
                || i.flow_control() == FlowControl::UnconditionalBranch && is_direct(i);
            if branches {
                let target = i.near_branch_target();
                if !begun.iter().any(|&(pc, flags)| pc == target && unwritten & !flags == 0) {
                    begun.push((target, unwritten));
                    paths.push((target, unwritten));
                }
            }
            match i.flow_control() {
                FlowControl::Next => falls_through(i) || repeats(i),
                FlowControl::ConditionalBranch => true,
                _ => false,
            }
        });
    }
    found
}

/// The general-purpose and vector registers a block reads or writes, as masks by register number;
/// for emitters that load registers at the block's entry and store them at its exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterUse {
    pub gpr_read: u16,
    pub gpr_written: u16,
    pub vec_read: u32,
    pub vec_written: u32,
}

/// Collects [`RegisterUse`] over instructions. Partial writes (8 and 16 bits, legacy SSE) and conditional ones
/// count as reads too.
pub fn register_use<'i>(insns: impl IntoIterator<Item = &'i Insn>) -> RegisterUse {
    use iced_x86::{InstructionInfoFactory, OpAccess};
    let mut factory = InstructionInfoFactory::new();
    let mut sum = RegisterUse::default();
    for insn in insns {
        for used in factory.info(&insn.raw).used_registers() {
            let writes = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            let whole = used.access() == OpAccess::Write && used.register().size() >= 4;
            record(&mut sum, used.register(), writes, whole);
        }
    }
    sum
}

fn record(sum: &mut RegisterUse, register: Register, writes: bool, whole: bool) {
    let full = register.full_register();
    let (read, written, n) = if full.is_gpr64() {
        let n = full.number();
        (!(whole && writes), writes, n)
    } else if full.is_zmm() {
        // A legacy SSE write keeps the upper part; whether the low part is read is for the optimiser to see.
        let n = full.number();
        sum.vec_read |= 1 << n;
        sum.vec_written |= u32::from(writes) << n;
        return;
    } else {
        return;
    };
    sum.gpr_read |= u16::from(read) << n;
    sum.gpr_written |= u16::from(written) << n;
}
