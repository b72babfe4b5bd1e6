//! The benchmarks there are: their groups, what they run, and at which size.

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// What a benchmark is about; means are taken over a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// C programs of the sources folder, one kind of computation each.
    Compute,
    /// C programs of vector code, each built for several levels of x86-64.
    Vectors,
    /// Whole programs as the distribution ships them, each with real work.
    Programs,
    /// Programs that end at once.
    Startup,
}

impl Group {
    pub const ALL: [Self; 4] = [Self::Compute, Self::Vectors, Self::Programs, Self::Startup];

    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Vectors => "vectors",
            Self::Programs => "programs",
            Self::Startup => "startup",
        }
    }
}

/// How much a benchmark has to do: enough for a second natively, or just enough to see that it works.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub full: u64,
    pub small: u64,
}

/// One word of a program's command line.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    Is(&'static str),
    /// The benchmark's size, behind a prefix.
    Size(&'static str),
    /// The path of a generated text of as many bytes as the size says.
    Text,
    /// A file of the sources folder, behind a prefix.
    Source(&'static str, &'static str),
    /// A file the program may write; it is compared, too.
    Output,
}

/// What is run.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// Compiled from `NAME.c` of the sources folder.
    Compiled,
    /// Compiled from this file of the sources folder, for processors that have these instructions.
    CompiledFor(&'static str, Level),
    /// An installed one of this name.
    Installed(&'static str),
}

/// What a program's code may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    V2,
    V3,
    V4,
    /// With AES and carry-less products of 128 bits.
    V2Aes,
    V3Aes,
    /// With those of 512 bits.
    V4Aes,
}

impl Level {
    /// The options of GCC's.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::V2 => &["-march=x86-64-v2"],
            Self::V3 => &["-march=x86-64-v3"],
            Self::V4 => &["-march=x86-64-v4"],
            Self::V2Aes => &["-march=x86-64-v2", "-maes", "-mpclmul"],
            Self::V3Aes => &["-march=x86-64-v3", "-maes", "-mpclmul"],
            Self::V4Aes => &["-march=x86-64-v4", "-maes", "-mpclmul", "-mvaes", "-mvpclmulqdq"],
        }
    }

    /// The level of x86-64.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 | Self::V2Aes => "v2",
            Self::V3 | Self::V3Aes => "v3",
            Self::V4 | Self::V4Aes => "v4",
        }
    }

    /// Whether this machine's processor has it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_here(self) -> bool {
        macro_rules! has {
            ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
        }
        match self {
            Self::V2 => has!("sse4.2" "ssse3" "popcnt"),
            Self::V3 => Self::V2.is_here() && has!("avx2" "fma" "bmi1" "bmi2" "f16c" "lzcnt" "movbe"),
            Self::V4 => Self::V3.is_here() && has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl"),
            Self::V2Aes => Self::V2.is_here() && has!("aes" "pclmulqdq"),
            Self::V3Aes => Self::V3.is_here() && Self::V2Aes.is_here(),
            Self::V4Aes => Self::V4.is_here() && Self::V2Aes.is_here() && has!("vaes" "vpclmulqdq"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_here(self) -> bool {
        false
    }
}

/// One benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark {
    pub name: &'static str,
    pub group: Group,
    /// A row of the published table.
    pub published: bool,
    pub program: Program,
    pub arguments: &'static [Word],
    pub size: Size,
}

const fn compute(name: &'static str, full: u64, small: u64) -> Benchmark {
    Benchmark {
        name,
        group: Group::Compute,
        published: false,
        program: Program::Compiled,
        arguments: &[Word::Size(""), Word::Output],
        size: Size { full, small },
    }
}

const fn published(name: &'static str, full: u64, small: u64) -> Benchmark {
    Benchmark { published: true, ..compute(name, full, small) }
}

const fn whole(
    name: &'static str,
    program: &'static str,
    arguments: &'static [Word],
    full: u64,
    small: u64,
) -> Benchmark {
    Benchmark {
        name,
        group: Group::Programs,
        published: false,
        program: Program::Installed(program),
        arguments,
        size: Size { full, small },
    }
}

const fn startup(name: &'static str, program: &'static str, arguments: &'static [Word]) -> Benchmark {
    Benchmark { group: Group::Startup, ..whole(name, program, arguments, 0, 0) }
}

/// Vector code.
const fn vectors(name: &'static str, source: &'static str, level: Level, full: u64, small: u64) -> Benchmark {
    Benchmark { group: Group::Vectors, program: Program::CompiledFor(source, level), ..compute(name, full, small) }
}

use Level::{V2, V2Aes, V3, V3Aes, V4, V4Aes};
use Word::{Is, Source, Text};

/// All benchmarks, group by group. Full sizes take half a second to two natively (string functions a tenth where the C
/// library has AVX-512 for them), so that a translator's warming up
/// doesn't hide its steady state.
pub const BENCHMARKS: &[Benchmark] = &[
    published("memory", 30, 2),
    published("division", 180_000_000, 2_000_000),
    published("fileout", 2_000_000, 50_000),
    compute("sieve", 300, 5),
    compute("matmul", 600, 5),
    compute("nbody", 8_000_000, 100_000),
    compute("qsort", 40, 1),
    compute("hashmap", 130_000_000, 1_000_000),
    compute("fib", 42, 30),
    compute("bytecode", 40_000_000, 500_000),
    compute("mandelbrot", 2_600, 200),
    compute("sha256", 1_800_000, 20_000),
    compute("crc", 900, 10),
    compute("strings", 300_000, 1_000),
    compute("chase", 100_000_000, 1_000_000),
    vectors("dot-v2", "vectors/dot.c", V2, 1_500_000, 15_000),
    vectors("dot-v3", "vectors/dot.c", V3, 3_000_000, 30_000),
    vectors("dot-v4", "vectors/dot.c", V4, 4_000_000, 40_000),
    vectors("product-v2", "vectors/product.c", V2, 4_000, 40),
    vectors("product-v3", "vectors/product.c", V3, 7_000, 70),
    vectors("product-v4", "vectors/product.c", V4, 12_000, 120),
    vectors("sha256-v2", "sha256.c", V2, 1_800_000, 18_000),
    vectors("sha256-v3", "sha256.c", V3, 1_800_000, 18_000),
    vectors("sha256-v4", "sha256.c", V4, 1_800_000, 18_000),
    vectors("gcm-v2", "vectors/gcm.c", V2Aes, 60_000, 600),
    vectors("gcm-v3", "vectors/gcm.c", V3Aes, 60_000, 600),
    vectors("gcm-v4", "vectors/gcm.c", V4Aes, 90_000, 900),
    vectors("copy-v2", "vectors/copy.c", V2, 30_000_000, 300_000),
    vectors("copy-v3", "vectors/copy.c", V3, 35_000_000, 350_000),
    vectors("copy-v4", "vectors/copy.c", V4, 40_000_000, 400_000),
    vectors("length-v2", "vectors/length.c", V2, 15_000_000, 150_000),
    vectors("length-v3", "vectors/length.c", V3, 25_000_000, 250_000),
    vectors("length-v4", "vectors/length.c", V4, 30_000_000, 300_000),
    whole("gzip", "gzip", &[Is("-9"), Is("-n"), Is("-c"), Text], 12 << 20, 200 << 10),
    whole("xz", "xz", &[Is("-6"), Is("-T1"), Is("-c"), Text], 3 << 20, 100 << 10),
    whole(
        "sqlite3",
        "sqlite3",
        &[Is("-cmd"), Word::Size(".parameter set :rows "), Is(":memory:"), Source(".read ", "work.sql")],
        350_000,
        5_000,
    ),
    whole("python3", "python3", &[Is("-I"), Is("-S"), Source("", "work.py"), Word::Size("")], 260, 1),
    whole("perl", "perl", &[Source("", "work.pl"), Word::Size("")], 90, 1),
    whole("lua", "lua5.4", &[Source("", "work.lua"), Word::Size("")], 200, 1),
    startup("true", "true", &[]),
    startup("ls", "ls", &[Is("/usr")]),
    startup("bash-true", "bash", &[Is("-c"), Is("true")]),
    startup("python3-pass", "python3", &[Is("-c"), Is("pass")]),
];

/// Benchmarks by words: names, groups, `published`, `all`; the published table without any. In the set's order,
/// each once.
pub fn choose(words: &[String]) -> anyhow::Result<Vec<&'static Benchmark>> {
    let published = ["published".to_owned()];
    let words = if words.is_empty() { &published } else { words };
    if let Some(unknown) = words.iter().find(|w| !BENCHMARKS.iter().any(|b| b.is_meant(w))) {
        let names: Vec<&str> = BENCHMARKS.iter().map(|b| b.name).collect();
        bail!(
            "{unknown}: no such benchmark; there are the groups compute, vectors, programs, startup, published and all, and {}",
            names.join(" ")
        );
    }
    Ok(BENCHMARKS.iter().filter(|b| words.iter().any(|w| b.is_meant(w))).collect())
}

impl Benchmark {
    fn is_meant(&self, word: &str) -> bool {
        word == self.name || word == self.group.name() || word == "all" || self.published && word == "published"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        choose(&words).unwrap().iter().map(|b| b.name).collect()
    }

    #[test]
    fn groups_and_names_mix_without_repetition() {
        assert_eq!(names(&[]), ["memory", "division", "fileout"]);
        assert_eq!(names(&["memory", "published"]), ["memory", "division", "fileout"]);
        assert_eq!(names(&["startup", "fib"]), ["fib", "true", "ls", "bash-true", "python3-pass"]);
        assert_eq!(names(&["compute"]).len(), 15);
        assert_eq!(names(&["all"]).len(), BENCHMARKS.len());
    }

    #[test]
    fn an_unknown_name_is_named_and_the_known_ones_are_told() {
        let message = choose(&["fob".to_owned()]).unwrap_err().to_string();
        assert!(message.starts_with("fob: no such benchmark") && message.contains("fib"));
    }

    #[test]
    fn names_are_unique_and_no_group() {
        let mut all: Vec<&str> = BENCHMARKS.iter().map(|b| b.name).collect();
        all.extend(["compute", "vectors", "programs", "startup", "published", "all"]);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
