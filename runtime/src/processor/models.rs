//! Processors by name, for `--cpu`: the levels of the x86-64 psABI (3.1.1, table 3.1) and some that were sold. Each has the
//! features of another one and more. What CPUID can't announce here anyway isn't listed.

use iced_x86::CpuidFeature as F;

use super::Features;

/// A named processor.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    name: &'static str,
    /// Another name.
    short: &'static str,
    /// It has all features of this one.
    from: &'static str,
    adds: &'static [F],
}

const fn row(name: &'static str, short: &'static str, from: &'static str, adds: &'static [F]) -> Model {
    Model { name, short, from, adds }
}

const MODELS: &[Model] = &[
    row("x86-64", "v1", "", &[F::CLFSH]),
    row("x86-64-v2", "v2", "x86-64", &[F::CMPXCHG16B, F::POPCNT, F::SSE3, F::SSSE3, F::SSE4_1, F::SSE4_2]),
    row(
        "x86-64-v3",
        "v3",
        "x86-64-v2",
        &[F::XSAVE, F::AVX, F::AVX2, F::BMI1, F::BMI2, F::F16C, F::FMA, F::LZCNT, F::MOVBE],
    ),
    row("x86-64-v4", "v4", "x86-64-v3", &[F::AVX512F, F::AVX512BW, F::AVX512CD, F::AVX512DQ, F::AVX512VL]),
    row("nehalem", "", "x86-64-v2", &[F::RDTSCP]),
    row("westmere", "", "nehalem", &[F::AES, F::PCLMULQDQ]),
    row("sandybridge", "", "westmere", &[F::XSAVE, F::XSAVEOPT, F::AVX]),
    row("ivybridge", "", "sandybridge", &[F::F16C, F::RDRAND, F::FSGSBASE]),
    row("haswell", "", "ivybridge", &[F::AVX2, F::BMI1, F::BMI2, F::FMA, F::LZCNT, F::MOVBE]),
    row("broadwell", "", "haswell", &[F::ADX, F::RDSEED, F::PREFETCHW]),
    row("skylake", "", "broadwell", &[F::CLFLUSHOPT, F::XSAVEC]),
    row("skylake-server", "", "skylake", &[F::CLWB, F::AVX512F, F::AVX512BW, F::AVX512CD, F::AVX512DQ, F::AVX512VL]),
    row("cascadelake", "", "skylake-server", &[F::AVX512_VNNI]),
    row(
        "icelake-server",
        "",
        "cascadelake",
        &[
            F::AVX512_IFMA,
            F::AVX512_VBMI,
            F::AVX512_VBMI2,
            F::AVX512_BITALG,
            F::AVX512_VPOPCNTDQ,
            F::GFNI,
            F::VAES,
            F::VPCLMULQDQ,
            F::SHA,
            F::RDPID,
        ],
    ),
    row(
        "sapphirerapids",
        "",
        "icelake-server",
        &[F::AVX512_BF16, F::AVX512_FP16, F::AVX_VNNI, F::MOVDIRI, F::MOVDIR64B, F::SERIALIZE, F::CLDEMOTE],
    ),
    row(
        "znver1",
        "",
        "x86-64-v3",
        &[
            F::AES,
            F::PCLMULQDQ,
            F::RDTSCP,
            F::RDRAND,
            F::RDSEED,
            F::FSGSBASE,
            F::ADX,
            F::PREFETCHW,
            F::CLFLUSHOPT,
            F::XSAVEOPT,
            F::XSAVEC,
            F::SHA,
            F::SSE4A,
        ],
    ),
    row("znver2", "", "znver1", &[F::CLWB, F::RDPID]),
    row("znver3", "", "znver2", &[F::VAES, F::VPCLMULQDQ]),
    row(
        "znver4",
        "",
        "znver3",
        &[
            F::AVX512F,
            F::AVX512BW,
            F::AVX512CD,
            F::AVX512DQ,
            F::AVX512VL,
            F::AVX512_IFMA,
            F::AVX512_VBMI,
            F::AVX512_VBMI2,
            F::AVX512_VNNI,
            F::AVX512_BITALG,
            F::AVX512_VPOPCNTDQ,
            F::AVX512_BF16,
            F::GFNI,
        ],
    ),
];

impl Model {
    /// The name to ask for it by.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// All its features.
    pub fn features(&self) -> Features {
        let mut features = model(self.from).map_or_else(Features::default, Model::features);
        self.adds.iter().for_each(|feature| features.insert(*feature));
        features
    }
}

/// The model of this name.
pub fn model(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| !name.is_empty() && (model.name == name || model.short == name))
}

/// All names.
pub fn names() -> String {
    let names = MODELS.iter().flat_map(|model| [model.name, model.short]);
    names.filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_build_on_earlier_ones() {
        for (n, model) in MODELS.iter().enumerate() {
            let earlier = MODELS[..n].iter().any(|other| other.name == model.from);
            assert!(earlier || model.from.is_empty(), "{}", model.name);
        }
        assert!(model("sapphirerapids").expect("it is there").features().has(F::SSE3));
        assert_eq!(model("v4"), model("x86-64-v4"));
        assert_eq!((model(""), model("pentium")), (None, None));
    }
}
