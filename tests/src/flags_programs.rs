//! Random programs that pass status flags over every sort of transfer, to be compared with the CPU.
//!
//! A program is assembly text of its own entry point: it runs each of its *cases* for some rounds and writes a line with
//! what each has come to. Cases call, return, jump and loop in all the ways there are, and what sets a flag stands
//! before, what reads it behind such a transfer. No case reads a flag that is undefined on the way there (Intel SDM
//! vol. 2, the instructions' "flags affected").

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::isa::values::Rng;

/// The status flags, by their bits in RFLAGS.
mod flag {
    pub const CF: u32 = 1;
    pub const PF: u32 = 1 << 2;
    pub const AF: u32 = 1 << 4;
    pub const ZF: u32 = 1 << 6;
    pub const SF: u32 = 1 << 7;
    pub const OF: u32 = 1 << 11;
    pub const ALL: u32 = CF | PF | AF | ZF | SF | OF;
}
use flag::{AF, ALL, CF, OF, PF, SF, ZF};

/// What programs consist of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Cases in one program, from this number on: each is the same in whatever program it stands.
    pub first: u64,
    pub cases: u64,
    /// How often each runs.
    pub rounds: u64,
}

/// Registers that cases calculate with. The others: rcx counts loops, r8 gathers results, r9 is a transfer's, r11 the
/// kernel's, r12 points at memory, r13 to r15 are the frame's.
const FREE: [[&str; 4]; 6] = [
    ["rax", "eax", "ax", "al"],
    ["rbx", "ebx", "bx", "bl"],
    ["rdx", "edx", "dx", "dl"],
    ["rsi", "esi", "si", "sil"],
    ["rdi", "edi", "di", "dil"],
    ["r10", "r10d", "r10w", "r10b"],
];

/// Conditions, and the flags that they read.
const CONDITIONS: [(&str, u32); 16] = [
    ("o", OF),
    ("no", OF),
    ("b", CF),
    ("ae", CF),
    ("e", ZF),
    ("ne", ZF),
    ("be", CF | ZF),
    ("a", CF | ZF),
    ("s", SF),
    ("ns", SF),
    ("p", PF),
    ("np", PF),
    ("l", SF | OF),
    ("ge", SF | OF),
    ("le", SF | OF | ZF),
    ("g", SF | OF | ZF),
];

/// The conditions that read none but these flags.
fn readable(defined: u32) -> Vec<&'static str> {
    CONDITIONS.into_iter().filter(|(_, flags)| flags & !defined == 0).map(|(name, _)| name).collect()
}

/// A function that several places call: its label, the flags that it expects, and those that are defined behind it.
struct Shared {
    label: String,
    expects: u32,
    leaves: u32,
}

/// Writes one case.
struct Writer {
    rng: Rng,
    case: u64,
    text: String,
    /// Functions and tables that stand behind the code at hand.
    behind: String,
    labels: u64,
    shared: Vec<Shared>,
    /// Calls and loops may still nest so deep.
    depth: u32,
}

macro_rules! line {
    ($w:expr, $($part:tt)*) => {{
        let line = format!($($part)*);
        $w.text += &line;
        $w.text.push('\n');
    }};
}

impl Writer {
    fn label(&mut self) -> String {
        self.labels += 1;
        format!("l{}_{}", self.case, self.labels)
    }

    fn register(&mut self, width: usize) -> &'static str {
        self.rng.pick(&FREE)[width]
    }

    /// Writes code that stands elsewhere.
    fn elsewhere<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> T {
        let here = core::mem::take(&mut self.text);
        let result = write(self);
        let there = core::mem::replace(&mut self.text, here);
        self.behind += &there;
        result
    }

    // ---- straight code -----------------------------------------------------------------------------

    /// An instruction that leaves the flags alone.
    fn neutral(&mut self) {
        let (a, b) = (self.register(0), self.register(0));
        let offset = self.rng.below(24) * 8;
        match self.rng.below(9) {
            0 => line!(self, " mov {a}, {b}"),
            1 => line!(self, " lea {a}, [{b}+{a}*2+{}]", self.rng.below(99)),
            2 => line!(self, " not {a}"),
            3 => line!(self, " mov [r12+{offset}], {a}"),
            4 => line!(self, " mov {a}, [r12+{offset}]"),
            5 => line!(self, " push {a}\n pop {b}"),
            6 => line!(self, " bswap {a}"),
            7 => line!(self, " movsx {a}, byte ptr [r12+{offset}]"),
            _ => line!(self, " xchg {a}, {b}"),
        }
    }

    /// An instruction that sets flags; gives those that are defined behind it.
    fn set(&mut self, defined: u32) -> u32 {
        let width = self.rng.below(4) as usize;
        let (a, b) = (self.register(width), self.register(width));
        let place = if self.rng.chance(15) {
            let size = ["qword", "dword", "word", "byte"][width];
            format!("{size} ptr [r12+{}]", self.rng.below(24) * 8)
        } else {
            a.to_owned()
        };
        let wide = self.rng.below(3) as usize;
        let (c, d) = (self.register(wide), self.register(wide));
        // Where it is shifted by more than its width, CF is undefined.
        let unshifted = self.register(wide % 2);
        match self.rng.below(20) {
            0..=2 => {
                let op = self.rng.pick(&["add", "sub", "cmp"]);
                line!(self, " {op} {place}, {b}");
                ALL
            }
            3..=5 => {
                let op = self.rng.pick(&["add", "sub", "cmp"]);
                let n = if width == 3 { 127 } else { 0x7fff };
                line!(self, " {op} {place}, {}", self.rng.below(2 * n) as i64 - n as i64);
                ALL
            }
            6 | 7 => {
                let op = self.rng.pick(&["and", "or", "xor", "test"]);
                line!(self, " {op} {place}, {b}");
                ALL & !AF
            }
            8 | 9 => {
                let op = self.rng.pick(&["inc", "dec"]);
                line!(self, " {op} {place}");
                ALL & !CF | defined & CF
            }
            10 if defined & CF != 0 => {
                let op = self.rng.pick(&["adc", "sbb"]);
                line!(self, " {op} {place}, {b}");
                ALL
            }
            10 => {
                line!(self, " neg {place}");
                ALL
            }
            11 => {
                let op = self.rng.pick(&["shl", "shr", "sar"]);
                let n = 1 + self.rng.below(7);
                line!(self, " {op} {place}, {n}");
                let overflow = if n == 1 { OF } else { 0 };
                CF | PF | ZF | SF | overflow
            }
            12 => {
                // A count of zero keeps what was.
                let op = self.rng.pick(&["shl", "shr", "sar"]);
                line!(self, " mov r9, rcx\n mov rcx, {}\n {op} {unshifted}, cl\n mov rcx, r9", self.register(0));
                defined & (CF | PF | ZF | SF)
            }
            13 => {
                let op = self.rng.pick(&["rol", "ror"]);
                let n = 1 + self.rng.below(2);
                line!(self, " {op} {place}, {n}");
                let overflow = if n == 1 { OF } else { 0 };
                defined & !OF | CF | overflow
            }
            14 => {
                let op = self.rng.pick(&["bt", "bts", "btr", "btc"]);
                line!(self, " {op} {c}, {}", self.rng.below(16));
                CF | defined & ZF
            }
            15 | 16 => {
                let op = self.rng.pick(&["stc", "clc"]);
                line!(self, " {op}");
                defined | CF
            }
            17 => {
                line!(self, " imul {c}, {d}");
                CF | OF
            }
            18 => {
                line!(self, " movq xmm0, {}\n movq xmm1, {}\n ucomisd xmm0, xmm1", self.register(0), self.register(0));
                ALL
            }
            _ => {
                let bits = self.rng.below(1 << 12) as u32 & ALL;
                line!(self, " push {}\n popfq", bits | 2);
                ALL
            }
        }
    }

    /// Takes a condition into the results.
    fn note(&mut self, condition: &str) {
        line!(self, " set{condition} r9b\n movzx r9, r9b\n lea r8, [r8+r8*4]\n lea r8, [r8+r9]");
    }

    /// Code that reads flags among those that are defined; gives which are so behind it.
    fn read(&mut self, defined: u32) -> u32 {
        let readable = readable(defined);
        if readable.is_empty() {
            self.neutral();
            return defined;
        }
        let condition = self.rng.pick(&readable);
        let (a, b) = (self.register(0), self.register(0));
        match self.rng.below(6) {
            0 | 1 => {
                self.note(condition);
                defined
            }
            2 => {
                line!(self, " cmov{condition} {a}, {b}");
                defined
            }
            3 => {
                let skip = self.label();
                line!(self, " j{condition} {skip}\n lea r8, [r8+r8*8+{}]\n{skip}:", self.rng.below(99));
                defined
            }
            4 if defined & CF != 0 => {
                let op = self.rng.pick(&["adc", "sbb"]);
                line!(self, " {op} {a}, {b}");
                ALL
            }
            4 => {
                line!(self, " cmov{condition} {b}, {a}");
                defined
            }
            _ => {
                // The mask is taken where no flag is touched.
                line!(self, " pushfq\n pop r9\n movq xmm2, r9\n mov r9d, {}\n movq xmm3, r9", defined & ALL);
                line!(self, " pand xmm2, xmm3\n movq r9, xmm2\n lea r8, [r8+r8*2]\n lea r8, [r8+r9]");
                defined
            }
        }
    }

    // ---- transfers ---------------------------------------------------------------------------------

    /// Some steps; gives the flags that are defined behind them.
    fn steps(&mut self, count: u64, mut defined: u32) -> u32 {
        for _ in 0..count {
            defined = match self.rng.below(10) {
                0 | 1 => {
                    self.neutral();
                    defined
                }
                2 | 3 => self.set(defined),
                4 | 5 => self.read(defined),
                _ => self.transfer(defined),
            };
        }
        defined
    }

    fn transfer(&mut self, defined: u32) -> u32 {
        if self.depth == 0 {
            return self.jump(defined);
        }
        self.depth -= 1;
        let behind = match self.rng.below(10) {
            0..=4 => self.call(defined),
            5 => self.call_shared(defined),
            6 => self.repeat(defined),
            7 => self.fork(defined),
            _ => self.jump(defined),
        };
        self.depth += 1;
        behind
    }

    /// A jump, in one of the ways there are.
    fn jump(&mut self, defined: u32) -> u32 {
        let to = self.label();
        match self.rng.below(7) {
            0 => line!(self, " lea r9, [rip+{to}]\n jmp r9"),
            1 => line!(self, " lea r9, [rip+{to}]\n push r9\n ret"),
            2 => line!(self, " jmp {to}"),
            3 => {
                let table = self.label();
                self.elsewhere(|w| line!(w, ".balign 8\n{table}: .quad {to}"));
                line!(self, " lea r9, [rip+{table}]\n jmp qword ptr [r9]");
            }
            4 => {
                line!(self, " mov r9, rcx\n mov eax, 39\n syscall\n mov eax, 7\n mov rcx, r9");
                return defined;
            }
            5 => line!(self, " call {to}_\n{to}_: pop r9\n lea r9, [rip+{to}]\n jmp r9"),
            _ => return self.switch(defined),
        }
        if self.rng.chance(50) {
            line!(self, " ud2");
        } else {
            // What stands there isn't always harmless.
            line!(self, " jmp {to}\n cmp eax, 5\n ud2");
        }
        line!(self, "{to}:");
        defined
    }

    /// A jump through a table whose index depends on the round.
    fn switch(&mut self, defined: u32) -> u32 {
        let (table, join) = (self.label(), self.label());
        let ways: Vec<String> = (0..4).map(|_| self.label()).collect();
        self.elsewhere(|w| line!(w, ".balign 8\n{table}: .quad {}", ways.join(", ")));
        match self.rng.below(2) {
            0 => line!(self, " jmp qword ptr [{table}+r13*8]"),
            _ => line!(self, " lea r9, [rip+{table}]\n mov r9, [r9+r13*8]\n jmp r9"),
        }
        let mut behind = ALL;
        for way in ways {
            line!(self, "{way}:");
            behind &= self.plain(defined);
            line!(self, " jmp {join}");
        }
        line!(self, "{join}:");
        behind
    }

    /// Up to two steps without a transfer.
    fn plain(&mut self, mut defined: u32) -> u32 {
        for _ in 0..self.rng.below(3) {
            defined = match self.rng.below(3) {
                0 => {
                    self.neutral();
                    defined
                }
                1 => self.set(defined),
                _ => self.read(defined),
            };
        }
        defined
    }

    /// Both sides of a branch, which join again.
    fn fork(&mut self, defined: u32) -> u32 {
        let readable = readable(defined);
        if readable.is_empty() {
            return self.set(defined);
        }
        let (other, join) = (self.label(), self.label());
        line!(self, " j{} {other}", self.rng.pick(&readable));
        let a = self.steps(2, defined);
        line!(self, " jmp {join}\n{other}:");
        let b = self.steps(2, defined);
        line!(self, "{join}:");
        a & b
    }

    /// A loop that leaves the flags alone by itself.
    fn repeat(&mut self, defined: u32) -> u32 {
        let head = self.label();
        line!(self, " push rcx\n mov ecx, {}\n{head}:", 2 + self.rng.below(2));
        let behind = if self.rng.chance(50) {
            self.neutral();
            self.call_neutrally();
            let readable = readable(defined);
            if !readable.is_empty() {
                let condition = self.rng.pick(&readable);
                self.note(condition);
            }
            defined
        } else {
            // In later rounds, what the body itself leaves is defined, and no more.
            self.steps(2, 0)
        };
        if self.rng.chance(50) {
            line!(self, " loop {head}");
        } else {
            let out = self.label();
            line!(self, " lea ecx, [rcx-1]\n jrcxz {out}\n jmp {head}\n{out}:");
        }
        line!(self, " pop rcx");
        behind
    }

    /// A call of a function that does nothing to the flags.
    fn call_neutrally(&mut self) {
        let function = self.label();
        self.elsewhere(|w| {
            line!(w, "{function}:");
            w.neutral();
            line!(w, " ret");
        });
        self.call_of(&function);
    }

    /// Calls a function in one of the ways there are.
    fn call_of(&mut self, function: &str) {
        match self.rng.below(6) {
            0..=2 => line!(self, " call {function}"),
            3 => line!(self, " lea r9, [rip+{function}]\n call r9"),
            4 => {
                let pointer = self.label();
                self.elsewhere(|w| line!(w, ".balign 8\n{pointer}: .quad {function}"));
                line!(self, " call qword ptr [rip+{pointer}]");
            }
            _ => {
                // A return address of the program's own making.
                let back = self.label();
                line!(self, " lea r9, [rip+{back}]\n push r9\n jmp {function}\n ud2\n{back}:");
            }
        }
    }

    /// A call of a function of its own.
    fn call(&mut self, defined: u32) -> u32 {
        let function = self.label();
        let behind = self.elsewhere(|w| w.function(&function, defined));
        self.call_of(&function);
        behind
    }

    /// Writes a function; gives the flags that it leaves defined.
    fn function(&mut self, label: &str, defined: u32) -> u32 {
        let inner = core::mem::take(&mut self.behind);
        line!(self, "{label}:");
        let frame = self.rng.chance(30);
        if frame {
            line!(self, " push rbx");
        }
        let count = 1 + self.rng.below(4);
        let mut defined = self.steps(count, defined);
        if frame {
            line!(self, " pop rbx");
        }
        match self.rng.below(8) {
            0 => line!(self, " pop r9\n jmp r9"),
            1 => {
                // A tail call.
                let next = self.label();
                let indirect = self.rng.chance(50);
                if indirect {
                    line!(self, " lea r9, [rip+{next}]\n jmp r9");
                } else {
                    line!(self, " jmp {next}");
                }
                line!(self, " ud2\n{next}:");
                defined = self.plain(defined);
                line!(self, " ret");
            }
            _ => line!(self, " ret"),
        }
        let behind = core::mem::replace(&mut self.behind, inner);
        self.text += &behind;
        defined
    }

    /// A call of a function that other places call, too.
    fn call_shared(&mut self, mut defined: u32) -> u32 {
        if self.shared.len() < 2 {
            let label = self.label();
            let expects = defined;
            let depth = core::mem::replace(&mut self.depth, 1);
            // It calls none of its kind: there is no recursion.
            let others = core::mem::take(&mut self.shared);
            self.shared.extend((0..2).map(|_| Shared { label: String::new(), expects: 0, leaves: 0 }));
            let leaves = self.elsewhere(|w| w.function(&label, expects));
            self.depth = depth;
            self.shared = others;
            self.shared.push(Shared { label, expects, leaves });
        }
        let n = self.rng.below(self.shared.len() as u64) as usize;
        let (label, expects, leaves) = (self.shared[n].label.clone(), self.shared[n].expects, self.shared[n].leaves);
        if label.is_empty() {
            return self.jump(defined);
        }
        if expects & !defined != 0 {
            line!(self, " cmp {}, {}", self.register(0), self.register(0));
            defined = ALL;
        }
        debug_assert_eq!(expects & !defined, 0);
        self.call_of(&label);
        leaves
    }
}

/// The text of one case: a function at `case_N`.
fn case(seed: u64, n: u64) -> String {
    let mut w = Writer {
        rng: Rng::new(&[seed, n]),
        case: n,
        text: String::new(),
        behind: String::new(),
        labels: 0,
        shared: Vec::new(),
        depth: 3,
    };
    line!(w, ".balign 16\ncase_{n}:");
    let count = 3 + w.rng.below(5);
    let mut defined = w.steps(count, 0);
    for _ in 0..3 {
        defined = w.read(defined);
    }
    line!(w, " ret");
    w.text + &w.behind
}

/// The text of a program.
pub fn program(seed: u64, shape: Shape) -> String {
    let Shape { first, cases, rounds } = shape;
    let mut text = START.replace("ROUNDS", &rounds.to_string()).replace("CASES", &cases.to_string());
    let all = first..first + cases;
    text += &all.clone().map(|n| format!(" .quad case_{n}\n")).collect::<String>();
    text += ".text\n";
    all.for_each(|n| text += &case(seed, n));
    text
}

/// The frame: for each case, as many rounds with other registers, and a line of 16 digits.
const START: &str = r#"
.intel_syntax noprefix
.globl _start
.text
_start:
 lea r15, [rip+cases]
next_case:
 xor r14d, r14d
 xor r8d, r8d
 mov rbp, 0x123456789abcdef
next_round:
 push r15
 push r14
 mov r9, 6364136223846793005
 lea r12, [rip+memory]
 .irp r, rax, rbx, rdx, rsi, rdi, r10
 imul rbp, r9
 add rbp, 1234567891
 mov \r, rbp
 .endr
 imul rbp, r9
 inc rbp
 mov r11, rbp
 shr r11, 33
 mov rcx, r11
 and ecx, 3
 jnz 1f
 xor eax, eax
 mov ebx, 1
 movsx rdx, dl
1: mov r13, r11
 shr r13, 5
 and r13d, 3
 mov ecx, 24
2: mov [r12+rcx*8-8], r11
 lea r11, [r11+r11*4+17]
 loop 2b
 push rbp
 call [r15]
 pop rbp
 add r8, rax
 imul r8, r8, 31
 add r8, rbx
 xor r8, rdx
 pop r14
 pop r15
 inc r14
 cmp r14, ROUNDS
 jne next_round
 lea rdi, [rip+shown+16]
 mov ecx, 16
3: mov eax, r8d
 and eax, 15
 cmp eax, 10
 jb 4f
 add eax, 39
4: add eax, 48
 dec rdi
 mov [rdi], al
 shr r8, 4
 dec ecx
 jnz 3b
 mov eax, 1
 mov edi, 1
 lea rsi, [rip+shown]
 mov edx, 17
 syscall
 add r15, 8
 lea rax, [rip+cases+8*CASES]
 cmp r15, rax
 jne next_case
 mov eax, 231
 xor edi, edi
 syscall
.data
shown: .ascii "0000000000000000\n"
.balign 64
memory: .zero 256
.section .rodata
cases:
"#;

/// Assembles a program into a folder; gives its path.
pub fn build(seed: u64, shape: Shape, folder: &Path) -> PathBuf {
    let name = format!("flags-{seed}-{}-{}-{}", shape.first, shape.cases, shape.rounds);
    let (source, executable) = (folder.join(format!("{name}.s")), folder.join(name));
    fs::write(&source, program(seed, shape)).expect("the folder is writable");
    let mut gcc = Command::new("gcc");
    gcc.args(["-nostdlib", "-static", "-no-pie", "-Wa,--noexecstack", "-o"]).arg(&executable).arg(&source);
    let status = gcc.status().expect("gcc is installed by scripts/setup.sh");
    assert!(status.success(), "{gcc:?}");
    executable
}
