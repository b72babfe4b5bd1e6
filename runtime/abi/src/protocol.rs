//! The translator service's protocol and the form of a compiled blob.
//!
//! Messages go over a Unix stream socket as a little-endian `u32` length and a `postcard` body.

use serde::{Deserialize, Serialize};

/// The guest host's instruction set a blob is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arch {
    X86_64,
    Aarch64,
}

/// What the code of a blob is for: part of its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    pub arch: Arch,
    /// LLVM's CPU name, or empty for the architecture's base.
    pub cpu: String,
    /// LLVM's feature string (`+avx2,+bmi2`), sorted.
    pub features: String,
}

/// `--opt`: see the design of the tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OptLevel {
    O0,
    O1,
    O2,
    O3,
}

/// Options that change the meaning or the form of the code: part of the cache key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CodeOptions {
    pub opt: OptLevel,
    /// Guest registers and `rip` are in the CPU state at every access that may fault
    /// (the guest has a handler for SIGSEGV or SIGBUS).
    pub precise: bool,
    /// Accesses keep x86's total store order (threads, or shared writable memory).
    pub tso: bool,
}

/// A stretch of guest memory that holds code, or constants that code reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeBytes {
    pub address: u64,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A block isn't taken into a region whose entry ran so many times as often: neither sent by the runtime nor chosen by
/// the service.
pub const COLD_FRACTION: u64 = 64;

/// How often tier 1 ran a basic block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockProfile {
    pub pc: u64,
    pub count: u64,
}

/// Where the indirect jump or call at a basic block's end probably leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndirectTargets {
    /// The block's address.
    pub from: u64,
    pub to: Vec<u64>,
    /// Where a jump reads its target from a table that is among the request's data: what the register that the code
    /// addresses the table by presumably holds (anything if the address is fixed).
    pub table_base: Option<u64>,
}

/// Asks for one region's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileRequest {
    /// Chosen by the runtime, comes back in the answer.
    pub id: u64,
    pub entry: u64,
    pub target: Target,
    pub options: CodeOptions,
    /// It is to take a smaller region's place, for code that leaves for it is hot.
    pub grows: bool,
    /// The guest's stores may change the code: all of it, or none.
    pub mutable: bool,
    /// The basic blocks tier 1 knows near the entry, with their counts.
    pub profile: Vec<BlockProfile>,
    /// Where the indirect jumps and calls near the entry probably lead.
    pub indirect: Vec<IndirectTargets>,
    /// The guest's code bytes that region formation may look at.
    pub code: Vec<CodeBytes>,
    /// Tables of jump targets, each once, in memory that the guest can't write to. There may be other things behind their
    /// last entries.
    pub data: Vec<CodeBytes>,
}

/// What a region was formed by, for the larger one that may take its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formed {
    /// It has taken a smaller one's place.
    pub grown: bool,
    /// The counts of its blocks.
    pub profile: Vec<BlockProfile>,
    /// Where its indirect jumps and calls lead; of a table's targets, one.
    pub indirect: Vec<IndirectTargets>,
    /// Where it leaves for inside its functions, in order: neither what it calls nor where it returns to.
    pub exits: Vec<u64>,
}

/// Where a blob's link slot stands and leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobSlot {
    /// Byte offset of the [`crate::state::LinkSlot`] in the blob's data.
    pub offset: u32,
    pub guest_pc: u64,
}

/// One row of the map from host to guest pc: code from `host_offset` on belongs to `guest_pc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcMapRow {
    pub host_offset: u32,
    pub guest_pc: u64,
}

/// Position-independent code of one region.
///
/// It is laid out as `code` (read-only, executable; constants included) followed, at the next multiple of
/// `data_align` (a page), by `data_len` bytes of zeroed private data that hold the link slots; code
/// reaches them by their constant distance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub entry_pc: u64,
    #[serde(with = "serde_bytes")]
    pub code: Vec<u8>,
    /// Offset in `code` of the block-ABI entry (state pointer in the first argument register).
    pub entry_offset: u32,
    /// Offset of the entry with the registers of [`crate::state::PASSED`] in host registers: only blobs jump there.
    pub passed_offset: u32,
    pub data_align: u32,
    pub data_len: u32,
    pub slots: Vec<BlobSlot>,
    /// Rows sorted by `host_offset`.
    pub pc_map: Vec<PcMapRow>,
    /// Guest code the region was made from, as (address, length): what invalidates it.
    pub source: Vec<(u64, u32)>,
    /// Guest data it was made from, likewise.
    pub data: Vec<(u64, u32)>,
    pub formed: Formed,
    /// Guest instructions in the region, for reports.
    pub guest_instructions: u32,
    /// Time the service needed, failed attempts included, microseconds.
    pub compile_micros: u64,
}

/// Where a client wants its regions to be kept for later runs ([`crate::cache`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepIn {
    /// The file's absolute path.
    pub file: Vec<u8>,
    /// What its header is to say.
    pub context: u64,
    pub program: Vec<u8>,
    /// Bytes that all files of its folder may take together.
    pub limit: u64,
}

/// A process that works for a guest's. It is the service's child, because a guest's own would outlive it, and its parent
/// or init would have to reap it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its command line.
    pub command: Vec<Vec<u8>>,
    /// It runs when no other worker with a key does. Of those with its key one waits at most; the next one isn't run.
    pub key: Option<u64>,
}

/// Runtime to service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Compile(CompileRequest),
    /// Once, before the first request: what is compiled for this client is kept there.
    Keep(KeepIn),
    /// Starts a worker. The descriptor that comes with this message (SCM_RIGHTS) is its standard input.
    Work(Worker),
}

/// Service to runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    Compiled {
        id: u64,
        blob: Box<Blob>,
        /// How often the region was made smaller, for the compiler took too long for it or died of it.
        splits: u32,
    },
    /// The region can't be compiled (an instruction without semantics, the compiler's own failure or slowness): it
    /// stays in tier 1.
    Failed { id: u64, reason: String },
}
