//! The processor that a guest sees: the features that are implemented here, or fewer of them if `--cpu` says so, and the
//! state that goes with them.

pub mod cpuid;
mod models;

use std::sync::OnceLock;

use iced_x86::CpuidFeature;
use xlate_abi::image::{Image, Xsave};
use xlate_abi::state::CpuState;
use xlate_x86::isa;

use crate::signal::FloatFormat;
use crate::xstate::{Layout, component};
pub use models::{Model, model, names};

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features([u64; Self::WORDS]);

impl Features {
    /// Words that have a bit for each of iced-x86's features (a test counts them).
    const WORDS: usize = 3;

    pub fn of(features: &[CpuidFeature]) -> Self {
        let mut set = Self::default();
        features.iter().for_each(|feature| set.insert(*feature));
        set
    }

    pub fn insert(&mut self, feature: CpuidFeature) {
        self.0[feature as usize / 64] |= 1 << (feature as usize % 64);
    }

    pub fn remove(&mut self, feature: CpuidFeature) {
        self.0[feature as usize / 64] &= !(1 << (feature as usize % 64));
    }

    pub fn has(&self, feature: CpuidFeature) -> bool {
        self.0[feature as usize / 64] >> (feature as usize % 64) & 1 == 1
    }

    fn and(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|n| self.0[n] & other.0[n]))
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, theirs)| own & !theirs == 0)
    }
}

/// What a guest takes its processor for.
#[derive(Debug)]
pub struct Processor {
    features: Features,
    /// The state components that XSAVE and signal frames have.
    xcr0: u64,
    /// What is asked most: feature bits by leaf.
    bits: cpuid::Bits,
    layout: Layout,
    float: FloatFormat,
}

impl Processor {
    /// One with all that is implemented, or with what it has in common with a model.
    pub fn new(model: Option<&Model>) -> Self {
        let features = announced(model.map(Model::features).as_ref());
        let xcr0 = components(&features);
        let framed = if features.has(CpuidFeature::XSAVE) { xcr0 } else { 0 };
        Self {
            features,
            xcr0,
            bits: cpuid::bits(&features),
            layout: Layout::INTEL,
            float: FloatFormat { components: framed, ..FloatFormat::PLAIN },
        }
    }

    /// For a captured process. It knows already which state components there are and where they lie: it gets no others, and
    /// the model lowers the features alone.
    pub fn of_image(model: Option<&Model>, image: &Image, xsave: &Xsave<'_>) -> Self {
        let enabled = xsave.enabled();
        let known = match enabled {
            _ if enabled & component::AVX == 0 => Some(CpuidFeature::AVX),
            _ if enabled & component::AVX512 != component::AVX512 => Some(CpuidFeature::AVX512F),
            _ => None,
        };
        let mut allowed = Features([u64::MAX; Features::WORDS]);
        known.into_iter().for_each(|lacking| allowed.remove(lacking));
        let xcr0 = components(&announced(Some(&allowed)));
        let features = announced(Some(&allowed.and(&model.map_or(allowed, Model::features))));
        let layout = Some(Layout::of_image(xsave.layout())).filter(Layout::is_sound).unwrap_or(Layout::INTEL);
        let largest = image.threads.iter().map(|thread| thread.xstate.len()).max().unwrap_or_default();
        // Without instructions that see a component, nothing is lost with it.
        let tolerated = enabled & (component::PKRU | component::ALL);
        let float = FloatFormat { components: xcr0, layout, largest, tolerated };
        Self { features, xcr0, bits: cpuid::bits(&features), layout, float }
    }

    /// One with these state components, whatever is implemented: to compare instructions with a CPU that has them.
    pub fn with_state(xcr0: u64) -> Self {
        Self { xcr0, ..Self::new(None) }
    }

    /// The one that the helpers find in the state; all that is implemented if there is none.
    pub fn of(state: &CpuState) -> &Self {
        static DEFAULT: OnceLock<Processor> = OnceLock::new();
        // SAFETY: whoever sets the field keeps the processor as long as the state.
        let own = unsafe { (state.processor as *const Self).as_ref() };
        own.unwrap_or_else(|| DEFAULT.get_or_init(|| Self::new(None)))
    }

    /// Whether CPUID announces a feature.
    pub fn has(&self, feature: CpuidFeature) -> bool {
        self.features.has(feature)
    }

    /// XCR0: the state components that there are.
    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Where the components lie in XSAVE's standard format.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The floating-point area of signal frames: FXSAVE's without XSAVE.
    pub fn frames(&self) -> FloatFormat {
        self.float
    }

    /// AT_HWCAP2 (arch/x86/include/uapi/asm/hwcap2.h).
    pub fn hwcap2(&self) -> u64 {
        const FSGSBASE: u64 = 1 << 1;
        if self.has(CpuidFeature::FSGSBASE) { FSGSBASE } else { 0 }
    }
}

/// The state components of the features' registers.
fn components(features: &Features) -> u64 {
    let of = |feature, bits| if features.has(feature) { bits } else { 0 };
    component::X87
        | component::SSE
        | of(CpuidFeature::AVX, component::AVX)
        | of(CpuidFeature::AVX512F, component::AVX512)
}

/// The features that CPUID announces, of `allowed` ones: those whose instructions all have a meaning, with all that they
/// need. An instruction of several features counts for the last of them in the table.
fn announced(allowed: Option<&Features>) -> Features {
    let missing: Vec<Features> = isa::missing_features().iter().map(|set| Features::of(set)).collect();
    let mut on = Features::of(cpuid::BASELINE);
    for row in cpuid::FEATURES {
        let mut with = on;
        with.insert(row.feature);
        let lacks = missing.iter().any(|set| set.has(row.feature) && set.is_within(&with));
        let needed = row.needs.iter().all(|feature| on.has(*feature));
        if !lacks && needed && allowed.is_none_or(|set| set.has(row.feature)) {
            on = with;
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use super::*;
    use CpuidFeature as F;

    #[test]
    fn each_feature_has_a_bit() {
        assert!(CpuidFeature::values().len() <= 64 * Features::WORDS);
    }

    #[test]
    fn state_goes_with_its_features() {
        for (set, xcr0) in [(&[][..], 3), (&[F::AVX], 7), (&[F::AVX, F::AVX512F], 0xe7)] {
            assert_eq!(components(&Features::of(set)), xcr0);
        }
        let all = Processor::new(None);
        assert!(all.has(F::SSE4_2) && all.has(F::XSAVEC) && all.has(F::FSGSBASE));
        assert_eq!(all.xcr0() & component::AVX != 0, all.has(F::AVX));
        assert_eq!((all.hwcap2(), all.frames().components), (2, all.xcr0()));
    }

    #[test]
    fn models_lower_what_is_announced() {
        let of = |name| Processor::new(Some(model(name).expect(name)));
        let (first, second) = (of("x86-64"), of("v2"));
        assert!(!first.has(F::SSE3) && !first.has(F::XSAVE) && !first.has(F::FSGSBASE));
        assert_eq!((first.xcr0(), first.frames().components, first.hwcap2()), (3, 0, 0));
        assert!(second.has(F::SSE4_2) && second.has(F::POPCNT) && !second.has(F::AES) && !second.has(F::XSAVE));
        let all = Processor::new(None);
        let names = names();
        for name in names.split(", ") {
            let lower = Processor::new(model(name));
            assert!(lower.features.is_within(&all.features), "{name}");
            assert_eq!(lower.xcr0() & !all.xcr0(), 0, "{name}");
        }
        assert_eq!(of("haswell").has(F::AVX2), all.has(F::AVX2));
    }

    #[test]
    fn what_a_feature_needs_comes_with_it() {
        let within = Features::of(&[F::AVX2, F::AVX512F, F::AVX512BW, F::FMA]);
        let on = announced(Some(&within));
        assert!(!on.has(F::AVX2) && !on.has(F::AVX512BW) && !on.has(F::FMA), "there is no AVX to go with them");
    }

    #[test]
    fn captured_processes_keep_the_state_that_they_know() {
        let area = |xcr0: u64, len: usize| {
            let mut area = vec![0; len];
            area[464..472].copy_from_slice(&xcr0.to_le_bytes());
            area
        };
        let of = |bytes: &[u8], model: Option<&Model>| {
            let thread = xlate_abi::image::Thread { xstate: bytes.to_vec(), ..Default::default() };
            let image = Image { threads: vec![thread], ..Image::default() };
            Processor::of_image(model, &image, &Xsave::new(bytes, None).expect("it is long enough"))
        };
        let all = Processor::new(None);
        let here = of(&area(0x602e7, 11_008), None);
        assert_eq!((here.xcr0(), here.features, here.layout), (all.xcr0(), all.features, Layout::INTEL));
        assert_eq!((here.frames().largest, here.frames().tolerated), (11_008, component::PKRU | component::ALL));
        let amd = of(&area(0x2e7, 2440), model("v2"));
        assert_eq!((amd.xcr0(), amd.layout.opmask, amd.has(F::XSAVE)), (all.xcr0(), 832, false));
        assert_eq!(amd.frames().components, all.xcr0(), "it has frames of such a kind");
        let old = of(&area(7, 832), None);
        assert!(!old.has(F::AVX512F) && old.xcr0() & component::AVX512 == 0);
        let older = of(&area(3, 576), None);
        assert_eq!((older.xcr0(), older.has(F::AVX2), older.has(F::SSE4_2)), (3, false, true));
    }
}
