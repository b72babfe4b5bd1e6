//! What a case consists of, and what comes out of running it.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};
use serde::{Deserialize, Serialize};

use super::arena::{DATA, DATA_LEN, READ_ONLY_LEN};

/// A vector register of 512 bits, the lowest word first.
pub type Vector = [u64; 8];

/// The registers a case starts from or ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub vec: [Vector; 32],
    /// The opmask registers.
    pub k: [u64; 8],
    pub mxcsr: u32,
    pub x87: X87,
    pub fs_base: u64,
    pub gs_base: u64,
}

impl State {
    /// Everything in its initial state.
    pub const EMPTY: Self = Self {
        gpr: [0; 16],
        rip: 0,
        rflags: 0,
        vec: [[0; 8]; 32],
        k: [0; 8],
        mxcsr: 0,
        x87: X87::INITIAL,
        fs_base: 0,
        gs_base: 0,
    };

    /// The low 128 bits of a vector register.
    pub fn xmm(&self, n: usize) -> u128 {
        u128::from(self.vec[n][1]) << 64 | u128::from(self.vec[n][0])
    }
}

/// How much vector state a machine has. The rest is zero in its cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub registers: usize,
    pub words: usize,
    pub masks: bool,
}

impl Extent {
    pub const FULL: Self = Self { registers: 32, words: 8, masks: true };

    /// Zeroes what the machine doesn't have.
    pub fn limit(self, state: &mut State) {
        for (n, register) in state.vec.iter_mut().enumerate() {
            let words = if n < self.registers { self.words } else { 0 };
            register[words..].fill(0);
        }
        if !self.masks {
            state.k = [0; 8];
        }
    }
}

/// The x87 unit and the MMX registers in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct X87 {
    /// 80 bits each, in physical order: the low 64 bits of the n-th are MMn.
    pub reg: [u128; 8],
    pub control: u16,
    pub status: u16,
    /// Bit n: physical register n is in use.
    pub tag: u8,
    /// FOP, FIP and FDP.
    pub opcode: u16,
    pub instruction: u64,
    pub operand: u64,
}

impl X87 {
    /// As after FNINIT (Intel SDM vol. 1, table 11-1).
    pub const INITIAL: Self =
        Self { reg: [0; 8], control: 0x37f, status: 0, tag: 0, opcode: 0, instruction: 0, operand: 0 };

    /// The physical number of the register on top of the stack.
    pub fn top(&self) -> usize {
        usize::from(self.status >> 11 & 7)
    }
}

/// The data area at the start of a case: a repeated background and what was laid over it.
#[derive(Clone, Debug)]
pub struct Memory {
    pub background: [u8; 64],
    /// Address and bytes; later ones lie over earlier ones. Parts outside the area don't exist.
    pub patches: Vec<(u64, Vec<u8>)>,
}

impl Memory {
    /// Writes the initial content.
    pub fn write_to(&self, data: &mut [u8]) {
        for chunk in data.chunks_exact_mut(self.background.len()) {
            chunk.copy_from_slice(&self.background);
        }
        for (address, bytes) in &self.patches {
            for (i, byte) in bytes.iter().enumerate() {
                let at = address.wrapping_add(i as u64).wrapping_sub(DATA);
                if at < DATA_LEN as u64 {
                    data[at as usize] = *byte;
                }
            }
        }
    }

    /// The initial bytes at an address inside the area, or in the page before it.
    pub fn read(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let at = usize::try_from(address.checked_sub(DATA - READ_ONLY_LEN as u64)?).ok()?;
        let mut all = vec![0; READ_ONLY_LEN + DATA_LEN];
        self.write_to(&mut all[READ_ONLY_LEN..]);
        Some(all.get(at..at.checked_add(len)?)?.to_vec())
    }
}

/// Machine code at its place.
#[derive(Clone, Debug)]
pub struct Program {
    pub address: u64,
    pub bytes: Vec<u8>,
    pub insns: Vec<Instruction>,
}

impl Program {
    /// Decodes the bytes; `None` unless they are whole, valid instructions.
    pub fn new(address: u64, bytes: Vec<u8>) -> Option<Self> {
        let mut decoder = Decoder::with_ip(64, &bytes, address, DecoderOptions::NONE);
        let insns: Vec<_> = decoder.iter().collect();
        let whole = insns.iter().all(|i| !i.is_invalid());
        whole.then_some(Self { address, bytes, insns })
    }

    pub fn end(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }

    /// Whether one of its instructions starts here.
    pub fn contains(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }

    /// One line an instruction: address, bytes, text.
    pub fn listing(&self) -> String {
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for i in &self.insns {
            let from = (i.ip() - self.address) as usize;
            let bytes: String = self.bytes[from..from + i.len()].iter().map(|b| format!("{b:02x}")).collect();
            let mut line = String::new();
            formatter.format(i, &mut line);
            text += &format!("    {:#x}  {bytes:<24} {line}  ({:?})\n", i.ip(), i.code());
        }
        text
    }
}

/// A program with a state to run it from.
#[derive(Clone, Debug)]
pub struct Case {
    pub program: Program,
    pub state: State,
    pub memory: Memory,
}

/// Kinds of exceptions, as far as a process can tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    Divide,
    SingleStep,
    Breakpoint,
    InvalidOpcode,
    /// #GP, and #SS, which differs only in the signal.
    GeneralProtection,
    /// #PF with the address.
    Page(u64),
    X87,
    Alignment,
    Simd,
    /// Any other vector.
    Other(u32),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Control left the program for the state's `rip`.
    Left,
    Syscall,
    /// An exception; the state's `rip` is what the handler sees.
    Fault(Fault),
    /// An engine gave up; never equal to anything native.
    Failed(String),
}

/// The result of a run, apart from the data area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub end: End,
    pub state: State,
}
