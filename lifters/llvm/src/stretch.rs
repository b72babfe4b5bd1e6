//! Stretches of floating point whose results are looked at together.
//!
//! Where the target's NaNs aren't x86's ([`crate::float`]), every result has to be looked at. But what goes into an
//! addition, subtraction, multiplication, division or root as a NaN comes out as one (IEEE 754-2019, 6.2.3), so in a
//! chain of them it is enough to look at the last. A *stretch* is a run of instructions that changes nothing but
//! registers. It is lifted twice: once with the target's own results, of which only the *ends* of chains are looked at
//! behind it; and once with every result mended, where control begins the stretch again if one of them is a NaN.

use core::ops::Range;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind};
use inkwell::basic_block::BasicBlock;
use inkwell::values::BasicValueEnum;
use xlate_abi::protocol::Arch;
use xlate_x86::decode::Insn;
use xlate_x86::emitter::Host;
use xlate_x86::{Block, Lifter, lift_block};

use crate::emitter::Llvm;
use crate::exits::Dispatch;
use crate::ir::Likely;
use crate::state::Registers;

/// A run of instructions, from a floating-point operation to one.
#[derive(Debug, PartialEq, Eq)]
struct Stretch {
    insns: Range<usize>,
    /// The operations whose results no other one of the stretch takes over, by address.
    ends: Vec<u64>,
    /// What it writes; no flags that anything reads.
    written: Registers,
}

/// What is known while a stretch is lifted without mending.
pub struct Unmended<'c> {
    ends: Vec<u64>,
    /// The ends' results.
    results: Vec<BasicValueEnum<'c>>,
    /// Where the stretch begins again.
    pub redo: BasicBlock<'c>,
}

impl<'c> Unmended<'c> {
    /// Takes note of the result of the instruction at `ip`.
    pub fn result(&mut self, ip: u64, result: BasicValueEnum<'c>) {
        if self.ends.contains(&ip) {
            self.results.push(result);
        }
    }
}

/// Emits a block like [`lift_block`], its stretches in two versions where that pays.
pub fn lift<'c>(e: &mut Llvm<'c>, block: &Block) {
    let precise = e.options.precise;
    // The index that a jump table is read at must be known by one value.
    if precise || e.arch == Arch::X86_64 || !matches!(e.dispatch, Dispatch::Compared) {
        return lift_block(e, block, precise);
    }
    let mut l = Lifter::new(e, precise);
    l.begin(block);
    let mut done = 0;
    for stretch in stretches(&block.insns) {
        l.instructions(&block.insns[done..stretch.insns.start]);
        done = stretch.insns.end;
        lift_twice(&mut l, &block.insns[stretch.insns.clone()], stretch);
    }
    l.instructions(&block.insns[done..]);
    l.finish(block);
}

fn lift_twice<'e, 'c>(l: &mut Lifter<'e, Llvm<'c>>, insns: &'e [Insn], stretch: Stretch) {
    let e = l.emitter();
    let before = e.held(stretch.written);
    let (redo, next) = (e.ir.block("redo"), e.ir.block(""));
    e.unmended = Some(Unmended { ends: stretch.ends, results: Vec::new(), redo });
    l.instructions(insns);
    let e = l.emitter();
    let unmended = e.unmended.take().expect("nothing inside ends it");
    let any = e.any_nan(&unmended.results);
    e.ir.cond_br(any, redo, next, Likely::Never);
    e.ir.at_end(redo);
    e.hold(&before);
    l.instructions(insns);
    let e = l.emitter();
    e.ir.br(next);
    e.ir.at_end(next);
}

/// What a floating-point operation calculates with: lanes of so many bytes, the lowest or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    lane: usize,
    scalar: bool,
}

/// The shape of an operation that makes a NaN of every NaN.
fn shape(i: &Instruction) -> Option<Shape> {
    use Mnemonic::*;
    let (lane, scalar) = match i.mnemonic() {
        Addss | Subss | Mulss | Divss | Sqrtss => (4, true),
        Addsd | Subsd | Mulsd | Divsd | Sqrtsd => (8, true),
        Addps | Subps | Mulps | Divps | Sqrtps => (4, false),
        Addpd | Subpd | Mulpd | Divpd | Sqrtpd => (8, false),
        _ => return None,
    };
    Some(Shape { lane, scalar })
}

/// The vector registers that an operation calculates with.
fn operands(i: &Instruction) -> impl Iterator<Item = usize> {
    use Mnemonic::*;
    let root = matches!(i.mnemonic(), Sqrtss | Sqrtsd | Sqrtps | Sqrtpd);
    let operands = if root { 1..2 } else { 0..2 };
    operands.filter(|n| i.op_kind(*n) == OpKind::Register).map(|n| i.op_register(n).number())
}

/// Whether an instruction between operations may be in a stretch: it changes nothing but registers, and no flags that
/// anything reads.
fn may_stand_between(insn: &Insn) -> bool {
    use Mnemonic::*;
    let i = &insn.raw;
    let moves = [
        Movss, Movsd, Movaps, Movapd, Movups, Movupd, Movdqa, Movdqu, Movd, Movq, Movlps, Movlpd, Movhps, Movhpd,
        Movhlps, Movlhps, Movddup, Unpcklps, Unpcklpd, Unpckhps, Unpckhpd, Shufps, Shufpd, Pshufd,
    ];
    let combines = [
        Andps, Andpd, Andnps, Andnpd, Orps, Orpd, Xorps, Xorpd, Pxor, Pand, Pandn, Por, Cvtsi2ss, Cvtsi2sd, Cvtss2sd,
        Cvtsd2ss,
    ];
    let integer = [Mov, Lea, Add, Sub, Movzx, Movsx, Movsxd, Cdqe, Nop];
    let known = [&moves[..], &combines, &integer].iter().any(|some| some.contains(&i.mnemonic()));
    let plain = |n| match i.op_kind(n) {
        OpKind::Register => i.op_register(n).is_gpr() || i.op_register(n).is_vector_register(),
        // Of these, only what comes first is written to.
        OpKind::Memory => n > 0,
        kind => !matches!(kind, OpKind::MemoryESRDI | OpKind::MemoryESEDI | OpKind::MemoryESDI),
    };
    known && (0..i.op_count()).all(plain) && i.rflags_modified() & insn.live() == 0
}

/// The vector register whose origin another one gets by a copy.
fn copied(i: &Instruction, origins: &[Origin; 32]) -> Origin {
    use Mnemonic::*;
    let from = i.op1_register();
    if i.op_count() != 2 || i.op1_kind() != OpKind::Register || !from.is_vector_register() {
        return None;
    }
    let origin = origins[from.number()];
    origin.filter(|(_, made)| match i.mnemonic() {
        Movaps | Movapd | Movups | Movupd | Movdqa | Movdqu => true,
        Movss => *made == Shape { lane: 4, scalar: true },
        Movsd => *made == Shape { lane: 8, scalar: true },
        _ => false,
    })
}

/// Where the value in a vector register comes from: an operation of the run, by its number, of this shape.
type Origin = Option<(usize, Shape)>;

struct Operation {
    /// Its place in the block, and its address.
    at: usize,
    ip: u64,
    /// Whether another one calculates with its result.
    taken_over: bool,
}

/// A run of instructions that may become a stretch.
#[derive(Default)]
struct Run {
    origins: [Origin; 32],
    operations: Vec<Operation>,
}

impl Run {
    /// Takes the next instruction in; false if it can't be in a stretch.
    fn take(&mut self, at: usize, insn: &Insn) -> bool {
        let i = &insn.raw;
        let origin = match shape(i) {
            Some(shape) => Some(self.operation(at, i, shape)),
            None if may_stand_between(insn) => copied(i, &self.origins),
            None => return false,
        };
        for n in written(&[*insn]).vecs() {
            self.origins[n] = origin;
        }
        true
    }

    fn operation(&mut self, at: usize, i: &Instruction, shape: Shape) -> (usize, Shape) {
        for n in operands(i) {
            if let Some((operation, made)) = self.origins[n]
                && made == shape
            {
                self.operations[operation].taken_over = true;
            }
        }
        self.operations.push(Operation { at, ip: i.ip(), taken_over: false });
        (self.operations.len() - 1, shape)
    }

    /// The stretch, if there is something to be saved.
    fn end(self, insns: &[Insn]) -> Option<Stretch> {
        let [first, .., last] = self.operations.as_slice() else { return None };
        let range = first.at..last.at + 1;
        let ends = self.operations.iter().filter(|o| !o.taken_over).map(|o| o.ip).collect();
        Some(Stretch { written: written(&insns[range.clone()]), insns: range, ends })
    }
}

/// The registers that instructions write.
fn written(insns: &[Insn]) -> Registers {
    let mut factory = InstructionInfoFactory::new();
    let mut written = Registers::default();
    for insn in insns {
        let writes =
            |access| !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        for used in factory.info(&insn.raw).used_registers().iter().filter(|used| writes(used.access())) {
            let r = used.register().full_register();
            if r.is_gpr() {
                written.gpr |= 1 << r.number();
            } else if r.is_vector_register() {
                written.vec |= 1 << r.number();
            }
        }
    }
    written
}

/// The stretches of a block, in order.
fn stretches(insns: &[Insn]) -> Vec<Stretch> {
    let mut found = Vec::new();
    let mut run = Run::default();
    for (at, insn) in insns.iter().enumerate() {
        if !run.take(at, insn) {
            found.extend(core::mem::take(&mut run).end(insns));
        }
    }
    found.extend(run.end(insns));
    found
}

#[cfg(test)]
mod tests {
    use iced_x86::code_asm::*;
    use xlate_x86::decode::{MAX_BLOCK, SliceSource, decode_block};

    use super::*;

    /// The stretches of a block as (first instruction, one behind the last, ends by number), and what the last one writes.
    fn of(f: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> (Vec<(usize, usize, Vec<usize>)>, Registers) {
        let mut a = CodeAssembler::new(64).expect("64 bits");
        f(&mut a).expect("operands that fit");
        a.hlt().expect("it has none");
        let bytes = a.assemble(0x1000).expect("no labels");
        let block = decode_block(&SliceSource { address: 0x1000, bytes: &bytes }, 0x1000, MAX_BLOCK, false);
        let number = |ip: u64| block.insns.iter().position(|i| i.raw.ip() == ip).expect("one of the block's");
        let found = stretches(&block.insns);
        let written = found.last().map(|s| s.written).unwrap_or_default();
        let seen = found.into_iter().map(|s| (s.insns.start, s.insns.end, s.ends.into_iter().map(number).collect()));
        (seen.collect(), written)
    }

    #[test]
    fn a_chain_has_one_end() {
        let (found, written) = of(|a| {
            a.mov(rax, 5u64)?;
            a.mulsd(xmm0, xmm1)?;
            a.lea(rcx, ptr(rcx + 8))?;
            a.movapd(xmm3, xmm0)?;
            a.addsd(xmm3, xmm2)?;
            a.sqrtsd(xmm4, xmm3)?;
            a.mov(rdx, rcx)
        });
        assert_eq!(found, [(1, 6, vec![5])]);
        assert_eq!(written, Registers { gpr: 1 << 1, vec: 1 | 1 << 3 | 1 << 4, ..Registers::default() });
    }

    #[test]
    fn every_chain_has_its_end() {
        let (found, _) = of(|a| {
            a.mulsd(xmm0, xmm1)?;
            a.subsd(xmm2, xmm0)?;
            a.divsd(xmm3, xmm0)
        });
        assert_eq!(found, [(0, 3, vec![1, 2])]);
    }

    #[test]
    fn what_is_overwritten_is_not_taken_over() {
        let (found, _) = of(|a| {
            a.mulsd(xmm0, xmm1)?;
            a.xorps(xmm0, xmm0)?;
            a.addsd(xmm0, xmm2)?;
            a.sqrtsd(xmm0, xmm5)?;
            a.movsd_2(xmm0, ptr(rax))?;
            a.addsd(xmm0, xmm1)
        });
        assert_eq!(found, [(0, 6, vec![0, 2, 3, 5])]);
    }

    #[test]
    fn lanes_that_an_operation_does_not_calculate_with_are_looked_at() {
        let (found, _) = of(|a| {
            a.mulpd(xmm0, xmm1)?;
            a.addsd(xmm0, xmm2)?;
            a.addpd(xmm0, xmm2)?;
            a.addps(xmm0, xmm2)?;
            a.mulss(xmm1, xmm1)?;
            a.mulps(xmm1, xmm1)?;
            a.movss(xmm4, xmm1)?;
            a.addps(xmm4, xmm4)
        });
        assert_eq!(found, [(0, 8, vec![0, 1, 2, 3, 4, 5, 7])]);
    }

    #[test]
    fn what_cannot_be_repeated_parts_stretches() {
        let (found, _) = of(|a| {
            a.mulsd(xmm0, xmm1)?;
            a.addsd(xmm0, xmm1)?;
            a.movsd_2(ptr(rax), xmm0)?;
            a.addsd(xmm0, xmm1)?;
            a.mulsd(xmm0, xmm1)?;
            a.comisd(xmm0, xmm1)?;
            a.mulsd(xmm0, xmm1)?;
            a.setb(al)
        });
        assert_eq!(found, [(0, 2, vec![1]), (3, 5, vec![4])], "one operation alone isn't worth it");
    }

    #[test]
    fn flags_that_are_read_part_stretches() {
        let (found, _) = of(|a| {
            a.mulsd(xmm0, xmm1)?;
            a.add(rax, 1)?;
            a.addsd(xmm0, xmm1)?;
            a.add(rax, 1)?;
            a.addsd(xmm0, xmm1)?;
            a.setc(al)
        });
        assert_eq!(found, [(0, 3, vec![2])]);
    }
}
