//! x86-64: decoding, flag analysis, the meaning of instructions over a generic [`Emitter`], and tier 0,
//! the interpreter. Knows no back end.

pub mod accesses;
pub mod decode;
pub mod effects;
pub mod emitter;
pub mod interpreter;
pub mod isa;
pub mod jump_table;
pub mod lifter;
pub mod string_compare;

mod arithmetic;
mod bit;
mod control;
mod data_movement;
mod division;
mod exchange;
mod flag_control;
mod logic;
pub mod operands;
pub mod segments;
mod shift;
mod string;
mod system;
pub mod unsupported;
pub mod vector;
pub mod wide;
pub mod x87;
mod xsave;

pub use decode::{Block, BlockEnd, CodeSource, Insn, decode_block};
pub use effects::Effects;
pub use emitter::Emitter;
pub use interpreter::Interpreter;
pub use jump_table::TableJump;
pub use lifter::{Lifter, lift_block};
