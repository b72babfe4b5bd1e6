//! What a run hands over so that its code is kept, and the process that keeps it. The run's own process ends, and no child
//! of it may outlive it, because its parent or init would have to reap that. So all that is needed goes into a file in
//! memory, which a worker of the translator service takes ([`crate::engine::workers`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use xlate_abi::blocks::PAGE_LEN;
use xlate_abi::protocol::{CodeBytes, KeepIn};
use xlate_x86::Block;

use super::{Compiled, write};
use crate::engine::GuestCode;
use crate::engine::baseline::{Compiler, Options};
use crate::engine::kept::depends::decode_noting;
use crate::engine::kept::record::How;

/// How long the compiling for the next run may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// All that the worker needs: where to keep code, code that is compiled, and what else is to be compiled.
#[derive(Serialize, Deserialize)]
pub struct Handover<'a> {
    pub place: Cow<'a, KeepIn>,
    /// What the run has compiled.
    pub compiled: Vec<Compiled<'a>>,
    /// What it hasn't, and is worth it: the most often executed first.
    pub uncompiled: Vec<Uncompiled>,
    /// How that is to be compiled: [`How`]'s bits.
    pub how: u8,
    /// Pages of guest code that the run has looked at, each with its executable bytes from its beginning on.
    pub pages: Vec<CodeBytes>,
}

/// A block that was executed too seldom to be compiled.
#[derive(Serialize, Deserialize)]
pub struct Uncompiled {
    pub pc: u64,
    /// Where the indirect jump or call at its end was seen to lead.
    pub seen: Vec<u64>,
}

/// Recognises that a block has changed: code at the same address is only the block of before if it decodes to the same
/// instructions with the same live flags.
pub fn fingerprint(block: &Block) -> u64 {
    let mut hasher = DefaultHasher::new();
    (block.pc, block.len, block.exit as u8).hash(&mut hasher);
    for insn in &block.insns {
        (insn.raw, insn.raw.len(), insn.live()).hash(&mut hasher);
    }
    hasher.finish()
}

impl Handover<'_> {
    /// Writes it into a file in memory.
    pub fn write(&self) -> io::Result<File> {
        use std::os::fd::FromRawFd;
        // SAFETY: a C string; the result is checked.
        let fd = unsafe { libc::memfd_create(c"xlate-handover".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: made just now, and nobody else knows it.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut writer = BufWriter::with_capacity(1 << 18, &file);
        postcard::to_io(self, &mut writer).map_err(io::Error::other)?;
        writer.flush()?;
        drop(writer);
        Ok(file)
    }

    fn read(mut file: File) -> io::Result<Handover<'static>> {
        file.rewind()?;
        let length = file.metadata()?.len() as usize;
        let mut scratch = vec![0; length];
        let reader = BufReader::with_capacity(1 << 18, file);
        let (handover, _) = postcard::from_io((reader, &mut scratch)).map_err(io::Error::other)?;
        Ok(handover)
    }

    fn options(&self) -> Options<'static> {
        let how = How::from_bits_retain(self.how);
        Options { precise: how.contains(How::PRECISE), counted: how.contains(How::COUNTED), check: None }
    }
}

/// Guest code as it was at the run's end.
struct Snapshot(HashMap<u64, Vec<u8>>);

impl GuestCode for Snapshot {
    fn fetch(&self, addr: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let at = addr.wrapping_add(done as u64);
            let offset = (at % PAGE_LEN) as usize;
            let Some(there) = self.0.get(&(at - offset as u64)).and_then(|page| page.get(offset..)) else { break };
            let n = there.len().min(buffer.len() - done);
            if n == 0 {
                break;
            }
            buffer[done..done + n].copy_from_slice(&there[..n]);
            done += n;
        }
        done
    }
}

/// The worker's work.
pub fn work(input: File) -> io::Result<()> {
    let mut handover = Handover::read(input)?;
    let pages = std::mem::take(&mut handover.pages).into_iter().map(|page| (page.address, page.bytes)).collect();
    let snapshot = Snapshot(pages);
    let made = compile(&handover, &snapshot)?;
    let blocks = handover.compiled.iter().chain(&made);
    write(&handover.place, blocks, &snapshot, &|page| snapshot.0.contains_key(&page))
}

/// Compiles what the run hasn't.
fn compile(handover: &Handover<'_>, snapshot: &Snapshot) -> io::Result<Vec<Compiled<'static>>> {
    let mut made = Vec::new();
    if handover.uncompiled.is_empty() {
        return Ok(made);
    }
    let (start, options) = (Instant::now(), handover.options());
    let mut compiler = Compiler::new().map_err(io::Error::other)?;
    for Uncompiled { pc, seen } in &handover.uncompiled {
        if start.elapsed() > PATIENCE {
            break;
        }
        let (block, _) = decode_noting(*pc, options.precise, snapshot);
        if block.is_empty() {
            continue;
        }
        if let Ok(code) = compiler.compile(&block, options) {
            let (seen, code) = (seen.clone(), Cow::Owned(code));
            made.push(Compiled { pc: *pc, how: handover.how, fingerprint: fingerprint(&block), seen, code });
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_ends_where_a_page_is_missing() {
        let page = |n: u8| vec![n; PAGE_LEN as usize];
        let snapshot = Snapshot([(0x1000, page(1)), (0x2000, page(2)), (0x4000, page(4)), (0x5000, Vec::new())].into());
        let fetch = |addr, len| {
            let mut buffer = vec![0; len];
            let n = snapshot.fetch(addr, &mut buffer);
            buffer.truncate(n);
            buffer
        };
        assert_eq!(fetch(0x1ffe, 4), [1, 1, 2, 2]);
        assert_eq!(fetch(0x2ffe, 4), [2, 2]);
        assert_eq!(fetch(0x4ffe, 4), [4, 4], "no code is there any more");
        assert!(fetch(0x3000, 1).is_empty() && fetch(0x5000, 1).is_empty());
    }
}
