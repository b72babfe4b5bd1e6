//! Every implemented instruction: effects and iced-x86's knowledge agree, or there is a reason.

use iced_x86::{
    Code, Encoder, Instruction, InstructionInfoFactory, MemorySize, Mnemonic, OpAccess, OpCodeOperandKind, OpKind,
    Register,
};

use xlate_abi::state::Trap;

use super::super::{AccessKind, Effects, raises_float_flags};
use crate::decode::{self, Insn, SliceSource, decode_block, flags_killed};
use crate::{isa, system};

const PC: u64 = 0x1000;

/// All implemented instructions in all forms that differ by kinds of operands or by a prefix; each register is another one.
fn instructions() -> Vec<Insn> {
    let codes = isa::codes().filter(|(_, implemented)| *implemented).map(|(code, _)| code);
    let (mut all, mut without) = (Vec::new(), Vec::new());
    for code in codes {
        let forms = forms(code);
        if forms.is_empty() && !is_of_another_processor(code) {
            without.push(code);
        }
        all.extend(forms);
    }
    assert!(without.is_empty(), "no form can be encoded of {without:?}");
    all
}

/// Codes that the decoder gives for other processors or by other bytes than the encoder's: branches cut to 16 bits, UD0
/// without operands, VIA's MONTMUL with its fixed prefix.
fn is_of_another_processor(code: Code) -> bool {
    use OpCodeOperandKind as K;
    matches!(code.op_code().op0_kind(), K::br16_1 | K::br16_2) || matches!(code, Code::Ud0 | Code::Montmul_64)
}

fn forms(code: Code) -> Vec<Insn> {
    let info = code.op_code();
    let mut forms = Vec::new();
    for in_memory in [false, true] {
        let Some(plain) = with_operands(code, in_memory) else { continue };
        let mut variants = vec![plain];
        let mut prefixed = |set: fn(&mut Instruction)| {
            let mut i = plain;
            set(&mut i);
            variants.push(i);
        };
        if info.can_use_lock_prefix() && in_memory {
            prefixed(|i| i.set_has_lock_prefix(true));
        }
        if info.can_use_rep_prefix() {
            prefixed(|i| i.set_has_rep_prefix(true));
        }
        if info.can_use_repne_prefix() && plain.is_string_instruction() {
            prefixed(|i| i.set_has_repne_prefix(true));
        }
        forms.extend(variants.iter().filter_map(decoded).filter(|insn| insn.raw.code() == code));
    }
    forms.dedup_by_key(|insn| insn.raw);
    forms
}

fn decoded(i: &Instruction) -> Option<Insn> {
    let mut encoder = Encoder::new(64);
    encoder.encode(i, PC).ok()?;
    let bytes = encoder.take_buffer();
    decode_block(&SliceSource { address: PC, bytes: &bytes }, PC, 1, false).insns.first().copied()
}

/// The instruction with registers, or with memory wherever it may be.
fn with_operands(code: Code, in_memory: bool) -> Option<Instruction> {
    let info = code.op_code();
    let mut i = Instruction::default();
    i.set_code(code);
    for n in 0..info.op_count() {
        let kind = info.op_kind(n);
        let name = format!("{kind:?}");
        if name.starts_with("mem") || name.contains("_or_mem") && in_memory {
            i.set_op_kind(n, OpKind::Memory);
            // An operand that is an address itself has the width of this one.
            let narrow = n > 0 && info.op_kind(0) == OpCodeOperandKind::r32_reg_mem;
            i.set_memory_base(if narrow { Register::ESI } else { Register::RSI });
            if name.contains("vsib") {
                let first = match &name[10..11] {
                    "x" => Register::XMM0,
                    "y" => Register::YMM0,
                    _ => Register::ZMM0,
                };
                i.set_memory_index(nth(first, 12));
            }
            if name == "mem_offs" {
                i.set_memory_base(Register::None);
                i.set_memory_displ_size(8);
            }
            continue;
        }
        operand(&mut i, n, kind, &name)?;
    }
    if info.require_op_mask_register() {
        i.set_op_mask(Register::K5);
    }
    Some(i)
}

fn nth(first: Register, n: usize) -> Register {
    Register::try_from(first as usize + n).expect("register classes are contiguous")
}

fn operand(i: &mut Instruction, n: u32, kind: OpCodeOperandKind, name: &str) -> Option<()> {
    use OpCodeOperandKind as K;
    let set = |i: &mut Instruction, kind| i.set_op_kind(n, kind);
    match kind {
        K::seg_rSI => set(i, OpKind::MemorySegRSI),
        K::es_rDI => set(i, OpKind::MemoryESRDI),
        K::seg_rDI => set(i, OpKind::MemorySegRDI),
        K::seg_rBX_al => {
            i.set_memory_base(Register::RBX);
            i.set_memory_index(Register::AL);
            set(i, OpKind::Memory);
        }
        K::br64_1 | K::br64_4 => {
            i.set_near_branch64(PC + 0x20);
            set(i, OpKind::NearBranch64);
        }
        _ if name.starts_with("imm") => {
            let kind = match kind {
                K::imm8 if follows_immediate(i, n) => OpKind::Immediate8_2nd,
                K::imm8sex16 => OpKind::Immediate8to16,
                K::imm8sex32 => OpKind::Immediate8to32,
                K::imm8sex64 => OpKind::Immediate8to64,
                K::imm16 => OpKind::Immediate16,
                K::imm32 => OpKind::Immediate32,
                K::imm32sex64 => OpKind::Immediate32to64,
                K::imm64 => OpKind::Immediate64,
                _ => OpKind::Immediate8,
            };
            set(i, kind);
            i.set_immediate_u64(n, 1);
        }
        _ => {
            i.set_op_register(n, register(kind, name, n)?);
        }
    }
    Some(())
}

/// Whether the operand before this one is an immediate, too.
fn follows_immediate(i: &Instruction, n: u32) -> bool {
    n > 0 && matches!(i.op_kind(n - 1), OpKind::Immediate16 | OpKind::Immediate8)
}

fn register(kind: OpCodeOperandKind, name: &str, n: u32) -> Option<Register> {
    use OpCodeOperandKind as K;
    let number = [3, 9, 10, 11, 13][n as usize];
    let class = name.split('_').next().unwrap_or_default();
    Some(match (kind, class) {
        (K::al, _) => Register::AL,
        (K::cl, _) => Register::CL,
        (K::ax, _) => Register::AX,
        (K::dx, _) => Register::DX,
        (K::eax, _) => Register::EAX,
        (K::rax, _) => Register::RAX,
        (K::fs, _) => Register::FS,
        (K::gs, _) => Register::GS,
        (K::st0, _) => Register::ST0,
        (K::sti_opcode, _) => Register::ST3,
        (_, "r8") => [Register::BL, Register::R9L, Register::R10L][n as usize],
        (_, "r16") => nth(Register::AX, number),
        (_, "r32") => nth(Register::EAX, number),
        (_, "r64") => nth(Register::RAX, number),
        (_, "mm") => nth(Register::MM0, 2 + n as usize),
        (_, "xmm") => nth(Register::XMM0, number),
        (_, "ymm") => nth(Register::YMM0, number),
        (_, "zmm") => nth(Register::ZMM0, number),
        // The first of a pair.
        (_, "k" | "kp1") => nth(Register::K0, 2 + n as usize),
        (_, "seg") => Register::DS,
        (_, "cr") => Register::CR0,
        (_, "dr") => Register::DR0,
        _ => return None,
    })
}

/// Registers read and written, general-purpose ones and then vectors, and memory likewise.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    gprs: [u32; 2],
    vectors: [u32; 2],
    /// The width of what is loaded, and of what is stored; 0 if nothing is.
    memory: [u32; 2],
}

/// What iced-x86 knows. Registers that are written in part count as read; so do those that may be written.
fn known(factory: &mut InstructionInfoFactory, i: &Instruction) -> Summary {
    let mut s = Summary::default();
    let info = factory.info(i);
    for used in info.used_registers() {
        let [mut reads, writes] = access(used.access());
        let full = used.register().full_register();
        let conditional = matches!(used.access(), OpAccess::CondWrite | OpAccess::ReadCondWrite);
        reads |= writes && (conditional || full.is_gpr() && used.register().size() < 4);
        let set = if full.is_gpr() {
            &mut s.gprs
        } else if full.is_vector_register() {
            &mut s.vectors
        } else {
            continue;
        };
        set[0] |= u32::from(reads) << full.number();
        set[1] |= u32::from(writes) << full.number();
    }
    for used in info.used_memory() {
        let size = if i.is_string_instruction() { i.memory_size() } else { used.memory_size() };
        let [reads, writes] = access(used.access());
        let size = if size == MemorySize::Unknown { 1 } else { size.size() as u32 };
        s.memory[0] += if reads { size } else { 0 };
        s.memory[1] += if writes { size } else { 0 };
    }
    s
}

fn access(access: OpAccess) -> [bool; 2] {
    match access {
        OpAccess::Read | OpAccess::CondRead => [true, false],
        OpAccess::Write | OpAccess::CondWrite => [false, true],
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => [true, true],
        _ => [false, false],
    }
}

/// What the instruction's meaning does, in the same terms. Accesses of unknown width have that of what is known.
fn found(e: &Effects, known: &Summary) -> Summary {
    let mut s = Summary { gprs: [e.gprs.read, e.gprs.written], ..Summary::default() };
    s.gprs[0] |= e.gprs.written & !e.gprs.always_written;
    s.vectors[1] = e.vectors_written();
    for v in &e.vectors {
        let whole = u64::MAX >> (64 - v.bits / 8);
        let merges = v.written != 0 && v.always_written != whole;
        s.vectors[0] |= u32::from(v.read != 0 || merges) << v.register;
    }
    for (n, other) in [AccessKind::Store, AccessKind::Load].into_iter().enumerate() {
        let accesses = || e.memory.iter().filter(|access| access.kind != other);
        let is_known = accesses().all(|access| access.bytes != 0);
        s.memory[n] = if is_known { accesses().map(|access| access.bytes).sum() } else { known.memory[n].max(1) };
    }
    s
}

/// Why an instruction's effects and what iced-x86 knows differ, where they may.
fn reason(i: &Instruction) -> Option<&'static str> {
    use Mnemonic::*;
    if isa::always_traps(i.code()) {
        return Some("it does nothing but raise an exception");
    }
    Some(match i.mnemonic() {
        Retf | Iret | Iretd | Iretq | Call if i.mnemonic() != Call || i.is_call_far_indirect() => {
            "iced-x86 counts one of the words on the stack"
        }
        Enter | Maskmovq | Maskmovdqu | Vmaskmovdqu => "it tests first whether a byte can be written",
        Neg if i.has_lock_prefix() => "it is an attempt: a load, and an exchange",
        Syscall => "what it writes is written where the system call is made",
        Fxsave | Fxsave64 | Fxrstor | Fxrstor64 => "iced-x86 doesn't count the vector registers",
        Sldt | Str | Smsw => "the kernel's emulation leaves the upper part of the register",
        Vperm2f128 | Vperm2i128 => "the immediate may leave out a source",
        Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 | Xrstor | Xrstor64 => {
            "what is accessed depends on edx:eax, which iced-x86 counts otherwise"
        }
        Insertq => "a part of the destination stays, which iced-x86 doesn't count as read",
        Vfmulcph | Vfcmulcph | Vfmulcsh | Vfcmulcsh => {
            "the body takes the destination for a third operand and leaves it"
        }
        Vzeroupper => "iced-x86 counts the parts that stay as read",
        Pop => "of a segment register, the selector is all that is loaded",
        Prefetch | Prefetchw | Prefetchwt1 | Prefetchnta | Prefetcht0 | Prefetcht1 | Prefetcht2 | Prefetchit0
        | Prefetchit1 | Cldemote => "a hint does nothing",
        Rdsspd | Rdsspq => "without shadow stacks it does nothing",
        Vpblendmb | Vpblendmw | Vpblendmd | Vpblendmq | Vblendmps | Vblendmpd if !i.has_op_mask() => {
            "nothing of the first source is chosen without a mask"
        }
        _ => return None,
    })
}

#[test]
fn effects_are_what_iced_knows() {
    let mut factory = InstructionInfoFactory::new();
    let mut differing = Vec::new();
    for insn in instructions() {
        let e = Effects::of(&insn);
        let known = known(&mut factory, &insn.raw);
        let found = found(&e, &known);
        if known != found && reason(&insn.raw).is_none() {
            differing.push(format!("{} ({:?}):\n  known {known:x?}\n  found {found:x?}", insn.raw, insn.raw.code()));
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn flags_are_killed_and_read_as_decoding_says() {
    let mut differing = Vec::new();
    for insn in instructions() {
        let (flags, i) = (Effects::of(&insn).flags, &insn.raw);
        let killed = flags_killed(i);
        let left = killed & !flags.always_written & !i.rflags_undefined();
        // What isn't killed counts as read.
        let read = flags.read & killed & !decode::before(i, 0);
        // What an instruction has read it may hand on.
        let written = flags.written & !i.rflags_modified() & !flags.read;
        if left | read | written != 0 {
            differing.push(format!("{i}: leaves {left:#x}, reads {read:#x}, writes {written:#x}; {flags:?}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn what_always_traps_does_nothing_else() {
    for (code, _) in isa::codes() {
        assert_eq!(isa::always_traps(code), system::is_privileged(code) || system::is_undefined(code), "{code:?}");
    }
    for insn in instructions().iter().filter(|insn| isa::always_traps(insn.raw.code())) {
        let e = Effects::of(insn);
        assert!(
            e.ends_block && (e.may_trap(Trap::GeneralProtection) || e.may_trap(Trap::InvalidOpcode)),
            "{}",
            insn.raw
        );
        assert!(e.gprs.written == 0 && e.flags.written == 0 && e.memory.is_empty(), "{}", insn.raw);
        assert_eq!(flags_killed(&insn.raw), 0, "{}: its handler sees the flags", insn.raw);
    }
}

#[test]
fn blocks_end_where_control_or_the_mode_changes() {
    for insn in instructions() {
        let (e, i) = (Effects::of(&insn), &insn.raw);
        assert_eq!(decode::falls_through(i), !e.ends_block, "{i}");
        assert_eq!(decode::changes_fp_mode(i), e.changes_float_mode(), "{i}");
    }
}

#[test]
fn memory_is_written_after_all_exceptions() {
    for insn in instructions() {
        assert!(!Effects::of(&insn).writes_before_exceptions, "{}", insn.raw);
    }
}

#[test]
fn what_raises_exceptions_depends_on_the_code_alone() {
    for insn in instructions() {
        let raises = Effects::of(&insn).raises_float_flags();
        assert_eq!(raises, raises_float_flags(&insn), "{}", insn.raw);
    }
}
