//! `xlate-compile`'s work: the only program with LLVM in it. It takes orders for regions on its standard input, one
//! after the other, and answers on its standard output, until the input ends.
//!
//! LLVM can't be interrupted and ends its process when it fails, so the service ([`crate::serve`]) keeps it in
//! processes that it can do without: one that takes too long or dies costs a region, nobody else notices.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::str::FromStr;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use xlate_abi::protocol::{Blob, CompileRequest};

use crate::translate::{RegionSize, translate};
use crate::wire;

/// LLVM recurses deeply over large functions.
const STACK: usize = 16 << 20;

/// For tests alone: `hang:N` or `abort:N` has the compiler never finish, or die, when a region has more than N
/// instructions.
const FAULT: &str = "XLATE_COMPILER_FAULT";

/// Service to compiler: a region to make.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order<'a> {
    pub request: Cow<'a, CompileRequest>,
    /// The region may get no larger.
    pub most: RegionSize,
}

/// Compiler to service.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Once, before all else: LLVM is loaded.
    Ready,
    /// How large the region is, before it is compiled. Not sent if there is no code for one.
    Formed(RegionSize),
    /// Ends an order; the error says why there is no code.
    Done(Result<Box<Blob>, String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Hang { above: usize },
    Abort { above: usize },
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = text.split_once(':').and_then(|(what, above)| {
            let above = above.parse().ok()?;
            match what {
                "hang" => Some(Self::Hang { above }),
                "abort" => Some(Self::Abort { above }),
                _ => None,
            }
        });
        fault.ok_or_else(|| format!("{FAULT}={text}: hang:N or abort:N is expected"))
    }
}

impl Fault {
    fn strike(self, instructions: usize) {
        match self {
            Self::Hang { above } if instructions > above => loop {
                std::hint::spin_loop();
            },
            Self::Abort { above } if instructions > above => std::process::abort(),
            _ => {}
        }
    }
}

/// How far a compiler steps back behind the service: what it makes is worth something for a long time, and can come a
/// little later.
const NICE: i32 = 5;

fn step_back() {
    // SAFETY: changes this process's priority, or nothing.
    unsafe { libc::nice(NICE) };
}

/// Compiles until standard input ends.
pub fn run() -> anyhow::Result<()> {
    step_back();
    // Should the service die meanwhile, its end of the input is closed, but that is only read between two orders.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let fault = std::env::var(FAULT).ok().map(|text| text.parse()).transpose().map_err(anyhow::Error::msg)?;
    xlate_llvm::initialize();
    let compiler = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || work_off(&mut io::stdin().lock(), &mut io::stdout().lock(), fault))?;
    match compiler.join() {
        Ok(outcome) => Ok(outcome?),
        // Its message has been printed.
        Err(_) => anyhow::bail!("the compiling thread panicked"),
    }
}

fn work_off(orders: &mut impl Read, reports: &mut impl Write, fault: Option<Fault>) -> io::Result<()> {
    wire::send(reports, &Report::Ready)?;
    while let Some(Order { request, most }) = wire::receive(orders)? {
        let mut announced = Ok(());
        let blob = translate(&request, most, |size| {
            announced = wire::send(reports, &Report::Formed(size));
            if let Some(fault) = fault {
                fault.strike(size.instructions);
            }
        });
        announced?;
        wire::send(reports, &Report::Done(blob.map(Box::new).map_err(|e| e.to_string())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_for_tests_are_read_or_refused() {
        assert_eq!("hang:20".parse(), Ok(Fault::Hang { above: 20 }));
        assert_eq!("abort:0".parse(), Ok(Fault::Abort { above: 0 }));
        for wrong in ["", "hang", "hang:", "stop:1", "abort:-1"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong:?}");
        }
    }
}
