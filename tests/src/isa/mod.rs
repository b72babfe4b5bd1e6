//! Native differential verification: the CPU itself is the oracle of every engine.
//!
//! A case is a short program and a state. [`generate`] encodes programs from iced-x86's own tables, [`states`]
//! makes states for them, [`excursion`] runs them on the CPU and keeps the engines' faults apart from our own,
//! [`engines`] runs them through the interpreter and the compilers, [`compare`] says where they differ, [`shrink`]
//! makes a difference small. [`campaign`] drives all that in child processes and adds up.
//!
//! Everything is a pure function of the seed, the instruction code and a round number, so a case is named by them.

pub mod arena;
#[cfg(target_arch = "x86_64")]
pub mod campaign;
pub mod case;
pub mod compare;
pub mod corpus;
pub mod engines;
#[cfg(target_arch = "x86_64")]
pub mod exclusions;
pub mod excursion;
#[cfg(feature = "llvm")]
pub mod explain;
#[cfg(target_arch = "x86_64")]
pub mod features;
pub mod generate;
pub mod record;
#[cfg(all(feature = "llvm", target_arch = "x86_64"))]
pub mod recorder;
pub mod replay;
pub mod shrink;
pub mod states;
pub mod values;
pub mod wrong;
pub mod x87_states;
