//! Jumps through tables whose content is known, and copies of blocks.

use iced_x86::code_asm::*;
use xlate_abi::protocol::OptLevel;
use xlate_abi::state::{CpuState, RAX, RBX, RCX, RDX, RSI};
use xlate_x86::decode::SliceSource;
use xlate_x86::{Block, TableJump, decode_block};

use super::harness::*;
use crate::{KnownTable, Region, compile_region};

const BASE: u64 = 0x40_0000;
const OUTSIDE: u64 = BASE + 0x1000;

/// A loop over bytes at RSI, each an index into a table at RDX: 0 adds 1 to RBX, 1 adds 100, beyond 2 ends.
struct Machine {
    code: Vec<u8>,
    /// Where the loop begins, its jump, and the two cases.
    places: [u64; 4],
}

impl Machine {
    fn new() -> Self {
        let mut a = CodeAssembler::new(64).expect("64-bit mode exists");
        let labels: [CodeLabel; 4] = core::array::from_fn(|_| a.create_label());
        let [mut top, mut jump, mut one, mut hundred] = labels;
        let mut program = |a: &mut CodeAssembler| {
            a.set_label(&mut top)?;
            a.movzx(eax, byte_ptr(rsi))?;
            a.add(rsi, 1)?;
            a.cmp(eax, 2)?;
            a.ja(OUTSIDE)?;
            a.set_label(&mut jump)?;
            a.mov(rcx, qword_ptr(rdx + rax * 8))?;
            a.jmp(rcx)?;
            a.set_label(&mut one)?;
            a.add(rbx, 1)?;
            a.jmp(top)?;
            a.set_label(&mut hundred)?;
            a.add(rbx, 100)?;
            a.jmp(top)
        };
        program(&mut a).expect("the test's code is valid");
        let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let made = a.assemble_options(BASE, options).expect("the test's code is valid");
        let places = [top, jump, one, hundred].map(|l| made.label_ip(&l).expect("it has an instruction"));
        Self { code: made.inner.code_buffer, places }
    }

    fn block(&self, n: usize) -> Block {
        decode_block(&SliceSource { address: BASE, bytes: &self.code }, self.places[n], 64, false)
    }

    /// The region of it all, for a table at this place with these targets.
    fn region(&self, table: u64, targets: &[u64]) -> Region {
        let mut region = Region::of(BASE, (0..4).map(|n| self.block(n)));
        let jump = TableJump::of(&self.block(1)).expect("a form that is followed");
        region.indirect.insert(self.places[1], self.places[2..].to_vec());
        region.blocks[1].table = Some(KnownTable { jump, base: table, targets: targets.to_vec() });
        region
    }
}

/// Runs a region over a program with the table in memory; gives RBX, RCX and where it ends.
fn run_over(region: &Region, program: &[u8], table: &[u64]) -> Vec<(u64, u64, u64)> {
    let mut ends = Vec::new();
    for target in hosts() {
        for opt in [OptLevel::O1, OptLevel::O2, OptLevel::O3] {
            for precise in [false, true] {
                let options = xlate_abi::protocol::CodeOptions { precise, ..options(opt) };
                let blob = compile_region(region, &target, options).expect("it can be compiled");
                let mut state = CpuState { rip: BASE, ..CpuState::default() };
                state.gpr[RSI] = program.as_ptr() as u64;
                state.gpr[RDX] = table.as_ptr() as u64;
                run(&blob, &mut state);
                assert!(state.gpr[RAX] <= 3);
                ends.push((state.gpr[RBX], state.gpr[RCX], state.rip));
            }
        }
    }
    compile_region(region, &arm_target(), options(OptLevel::O2)).expect("it can be compiled for AArch64");
    ends.dedup();
    ends
}

#[test]
fn a_known_table_is_not_looked_at_again() {
    let machine = Machine::new();
    let [.., one, hundred] = machine.places;
    let table = [one, hundred, OUTSIDE + 8];
    let known = machine.region(table.as_ptr() as u64, &table);
    assert_eq!(run_over(&known, &[0, 1, 1, 3], &table), [(201, hundred, OUTSIDE)]);
    // What is known stands for what is there: the runtime drops the code if that changes.
    let otherwise = machine.region(table.as_ptr() as u64, &[hundred, one]);
    assert_eq!(run_over(&otherwise, &[0, 1, 1, 3], &table), [(102, one, OUTSIDE)]);
    // Out of the region by an entry that leads elsewhere, and by one that isn't known: both as memory says.
    assert_eq!(run_over(&known, &[0, 2, 3], &table), [(1, OUTSIDE + 8, OUTSIDE + 8)]);
    assert_eq!(run_over(&otherwise, &[2, 3], &table), [(0, OUTSIDE + 8, OUTSIDE + 8)]);
}

#[test]
fn another_table_than_expected_leads_where_it_says() {
    let machine = Machine::new();
    let table = [OUTSIDE + 16, OUTSIDE + 24];
    let region = machine.region(0x1000, &machine.places[2..]);
    assert_eq!(run_over(&region, &[1, 3], &table), [(0, OUTSIDE + 24, OUTSIDE + 24)]);
}

#[test]
fn copies_stand_for_the_block_on_their_way_alone() {
    let machine = Machine::new();
    let [.., one, hundred] = machine.places;
    let table = [one, hundred, OUTSIDE];
    let mut region = machine.region(table.as_ptr() as u64, &table);
    // The case of 100 gets a loop's head and jump of its own.
    for (n, from) in [(0, 3), (1, 4)] {
        let copy = crate::RegionBlock { copy_for: Some(from), ..region.blocks[n].clone() };
        region.blocks.push(copy);
    }
    assert_eq!(run_over(&region, &[1, 0, 1, 1, 0, 3], &table), [(302, one, OUTSIDE)]);
    // To see that they are taken: the copy's jump has another table.
    let elsewhere = decode_block(&SliceSource { address: BASE, bytes: &machine.code }, one, 64, false);
    region.blocks[5].block = Block { pc: machine.places[1], ..elsewhere };
    assert_eq!(run_over(&region, &[1, 0, 3], &table), [(101, hundred, OUTSIDE)]);
    let twice = region.blocks[4].clone();
    region.blocks.push(twice);
    assert!(matches!(
        compile_region(&region, &hosts()[0], options(OptLevel::O2)),
        Err(crate::CompileError::DuplicateBlock(BASE))
    ));
}
