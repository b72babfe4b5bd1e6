//! Stretches of floating point whose results are looked at together.
//!
//! Where the target's NaNs aren't x86's ([`crate::float`]), every result has to be looked at. But what goes into an
//! addition, subtraction, multiplication, division or root as a NaN comes out as one (IEEE 754-2019, 6.2.3), so in a
//! chain of them it is enough to look at the last. A *stretch* is a run of instructions that changes nothing but
//! registers. It is lifted twice: once with the target's own results, of which only the *ends* of chains are looked at
//! behind it; and once with every result mended, where control begins the stretch again if one of them is a NaN.

use core::ops::Range;

use inkwell::basic_block::BasicBlock;
use inkwell::values::BasicValueEnum;
use xlate_abi::protocol::Arch;
use xlate_x86::decode::Insn;
use xlate_x86::effects::{self, FloatKind};
use xlate_x86::emitter::{Fty, Host};
use xlate_x86::lifter::STATUS;
use xlate_x86::{Block, Effects, Lifter, lift_block};

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
    /// Vector registers to whose first value a fused operation adds, a bit each.
    accumulators: u32,
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
    // An exception leaves the first version for the second one, and only there it settles flags that are pending. Both must
    // find them settled, because what follows knows one place of theirs.
    l.flush_flags();
    let e = l.emitter();
    e.settle_single_flags(STATUS);
    let mut before = e.held(stretch.written);
    // A fused operation overwrites what it adds to. So the value for the second version is a copy, made here: otherwise LLVM
    // would copy it for the operation, and, in a loop, the result back.
    before.copy_vectors(e, stretch.accumulators);
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

/// What a floating-point operation calculates with: numbers of a format in so many bits, those of one or of a whole vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    format: Fty,
    bits: u32,
}

/// Whether an instruction can be done again: it changes nothing but registers, and no flags that anything reads. What it
/// reads must be as it was before the stretch or mended, or go no further than vector registers: the lifter knows one origin of
/// the flags, and an address that came from a NaN as the target makes it might fault.
fn is_repeatable(insn: &Insn, effects: &Effects) -> bool {
    effects.changes_only_registers()
        && effects.flags_written() & insn.live() == 0
        && effects.flags.read == 0
        && !effects.leads_out_of_vectors()
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

/// So many instructions may stand between two operations: there is little to be saved, and code is lifted twice.
const MOST_BETWEEN: usize = 16;

/// A run of instructions that may become a stretch.
#[derive(Default)]
struct Run {
    origins: [Origin; 32],
    operations: Vec<Operation>,
}

impl Run {
    /// Takes the next instruction in; false if it can't be in a stretch.
    fn take(&mut self, at: usize, insn: &Insn) -> bool {
        let effects = Effects::of(insn);
        if !is_repeatable(insn, &effects) || self.operations.last().is_some_and(|o| at - o.at > MOST_BETWEEN + 1) {
            return false;
        }
        let made = self.operation(at, insn, &effects);
        let mut origins = self.origins;
        for v in effects.vectors.iter().filter(|v| effects.vectors_written() >> v.register & 1 != 0) {
            origins[usize::from(v.register)] = match v.low.origin {
                effects::Origin::Float(_) => made,
                effects::Origin::Vector(from) => self.origins[usize::from(from)],
                _ => None,
            }
            .filter(|(_, shape)| shape.bits <= v.low.bits);
        }
        self.origins = origins;
        true
    }

    /// Takes in an instruction's operation, if it has one whose result would have to be mended. If it has several, all their
    /// results are looked at.
    fn operation(&mut self, at: usize, insn: &Insn, effects: &Effects) -> Origin {
        effects.floats.iter().find(|f| f.keeps_nans())?;
        let number = self.operations.len();
        self.operations.push(Operation { at, ip: insn.raw.ip(), taken_over: false });
        let [float] = effects.floats.as_slice() else { return None };
        let shape = Shape { format: float.format, bits: float.bits };
        for operand in float.operands {
            if let effects::Origin::Vector(n) = operand
                && let Some((operation, made)) = self.origins[usize::from(n)]
                && made == shape
            {
                self.operations[operation].taken_over = true;
            }
        }
        Some((number, shape))
    }

    /// The stretch, if there is something to be saved.
    fn end(self, insns: &[Insn]) -> Option<Stretch> {
        let [first, .., last] = self.operations.as_slice() else { return None };
        let range = first.at..last.at + 1;
        let ends = self.operations.iter().filter(|o| !o.taken_over).map(|o| o.ip).collect();
        let insns = &insns[range.clone()];
        Some(Stretch { written: written(insns), accumulators: accumulators(insns), insns: range, ends })
    }
}

/// The registers that instructions write.
fn written(insns: &[Insn]) -> Registers {
    insns.iter().map(Effects::of).fold(Registers::default(), |all, effects| {
        let gpr = effects.gprs.written as u16;
        all.union(Registers { gpr, vec: effects.vectors_written(), ..Registers::default() })
    })
}

/// The vector registers to whose value before these instructions a fused operation adds, and that it writes then.
fn accumulators(insns: &[Insn]) -> u32 {
    let (mut found, mut written) = (0, 0);
    for effects in insns.iter().map(Effects::of) {
        let adds_to = |n: u8| {
            let is_third = effects::Origin::Vector(n);
            effects.floats.iter().any(|f| f.kind == FloatKind::Fused && f.bits >= 128 && f.operands[2] == is_third)
        };
        let own =
            effects.vectors.iter().filter(|v| effects.vectors_written() >> v.register & 1 != 0 && adds_to(v.register));
        found |= own.fold(0, |all, v| all | 1 << v.register) & !written;
        written |= effects.vectors_written();
    }
    found
}

/// The stretches of a block, in order.
fn stretches(insns: &[Insn]) -> Vec<Stretch> {
    let mut found = Vec::new();
    let mut run = Run::default();
    for (at, insn) in insns.iter().enumerate() {
        if !run.take(at, insn) {
            found.extend(core::mem::take(&mut run).end(insns));
            // It may begin another one.
            run.take(at, insn);
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

    /// The first instruction, the one after the last, and the ends by number.
    type Seen = (usize, usize, Vec<usize>);

    /// The stretches of a block, and what the last one writes.
    fn of(f: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> (Vec<Seen>, Registers) {
        let (found, written, _) = of_all(f);
        (found, written)
    }

    /// The same with the accumulators of the last one.
    fn of_all(f: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> (Vec<Seen>, Registers, u32) {
        let mut a = CodeAssembler::new(64).expect("64 bits");
        f(&mut a).expect("operands that fit");
        a.hlt().expect("it has none");
        let bytes = a.assemble(0x1000).expect("no labels");
        let block = decode_block(&SliceSource { address: 0x1000, bytes: &bytes }, 0x1000, MAX_BLOCK, false);
        let number = |ip: u64| block.insns.iter().position(|i| i.raw.ip() == ip).expect("one of the block's");
        let found = stretches(&block.insns);
        let (written, accumulators) = found.last().map(|s| (s.written, s.accumulators)).unwrap_or_default();
        let seen = found.into_iter().map(|s| (s.insns.start, s.insns.end, s.ends.into_iter().map(number).collect()));
        (seen.collect(), written, accumulators)
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
    fn fused_operations_are_part_of_chains() {
        let (found, _) = of(|a| {
            a.vfmadd231pd(ymm0, ymm1, ymmword_ptr(rdi))?;
            a.vfnmsub132pd(ymm0, ymm2, ymm3)?;
            a.vmulpd(ymm4, ymm0, ymm0)?;
            a.vfmadd213sd(xmm4, xmm5, xmm6)
        });
        assert_eq!(found, [(0, 4, vec![2, 3])], "each operand may be a result, but a scalar is no whole vector");
    }

    #[test]
    fn accumulators_are_what_fused_operations_add_to_first() {
        let (_, _, accumulators) = of_all(|a| {
            a.vfmadd231pd(ymm0, ymm1, ymm2)?;
            a.vfmadd213pd(ymm3, ymm1, ymm2)?;
            a.vmulpd(ymm4, ymm1, ymm2)?;
            a.vfmadd231pd(ymm4, ymm1, ymm2)?;
            a.vfmadd231sd(xmm5, xmm1, xmm2)?;
            a.vfnmadd231ps(xmm6, xmm6, xmm2)
        });
        assert_eq!(accumulators, 1 | 1 << 6);
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
    fn results_go_on_in_copies_of_their_lanes() {
        let (found, _) = of(|a| {
            a.mulsd(xmm0, xmm1)?;
            a.unpcklpd(xmm0, xmm2)?;
            a.movhpd(xmm0, qword_ptr(rax))?;
            a.addsd(xmm0, xmm3)?;
            a.movddup(xmm4, xmm0)?;
            a.addsd(xmm4, xmm3)
        });
        assert_eq!(found, [(0, 6, vec![5])]);
    }

    #[test]
    fn all_results_of_several_operations_are_looked_at() {
        let (found, _) = of(|a| {
            a.addsubps(xmm0, xmm1)?;
            a.addps(xmm0, xmm2)?;
            a.haddps(xmm0, xmm0)?;
            a.minps(xmm0, xmm3)?;
            a.addps(xmm0, xmm2)
        });
        assert_eq!(found, [(0, 5, vec![0, 1, 2, 4])]);
    }

    #[test]
    fn what_leaves_the_vectors_parts_stretches() {
        let (found, _) = of(|a| {
            a.mulsd(xmm0, xmm1)?;
            a.movq(rax, xmm2)?;
            a.mulsd(xmm0, xmm1)?;
            a.cmovb(rax, rcx)?;
            a.mulsd(xmm0, xmm1)?;
            a.movq(xmm3, rax)?;
            a.mulsd(xmm0, xmm1)
        });
        assert_eq!(found, [(4, 7, vec![6])]);
    }

    #[test]
    fn operations_far_apart_are_parted() {
        let (found, _) = of(|a| {
            for n in [MOST_BETWEEN, MOST_BETWEEN + 1, 0] {
                a.mulsd(xmm0, xmm1)?;
                (0..n).try_for_each(|_| a.mov(rax, rcx))?;
            }
            a.mulsd(xmm0, xmm1)
        });
        let (second, third) = (MOST_BETWEEN + 1, 2 * MOST_BETWEEN + 3);
        assert_eq!(found, [(0, second + 1, vec![second]), (third, third + 2, vec![third + 1])]);
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
