//! /proc/cpuinfo of the processor that CPUID describes (arch/x86/kernel/cpu/proc.c).

use crate::processor::Processor;

/// Registers of a CPUID leaf.
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// Features by leaf, register and bit, under the names and in the order of the kernel
/// (arch/x86/include/asm/cpufeatures.h).
const FLAGS: &[(u32, usize, u32, &str)] = &[
    (1, EDX, 0, "fpu"),
    (1, EDX, 4, "tsc"),
    (1, EDX, 8, "cx8"),
    (1, EDX, 15, "cmov"),
    (1, EDX, 19, "clflush"),
    (1, EDX, 23, "mmx"),
    (1, EDX, 24, "fxsr"),
    (1, EDX, 25, "sse"),
    (1, EDX, 26, "sse2"),
    (0x8000_0001, EDX, 11, "syscall"),
    (0x8000_0001, EDX, 20, "nx"),
    (0x8000_0001, EDX, 27, "rdtscp"),
    (0x8000_0001, EDX, 29, "lm"),
    (1, ECX, 0, "pni"),
    (1, ECX, 1, "pclmulqdq"),
    (1, ECX, 9, "ssse3"),
    (1, ECX, 12, "fma"),
    (1, ECX, 13, "cx16"),
    (1, ECX, 19, "sse4_1"),
    (1, ECX, 20, "sse4_2"),
    (1, ECX, 22, "movbe"),
    (1, ECX, 23, "popcnt"),
    (1, ECX, 25, "aes"),
    (1, ECX, 26, "xsave"),
    (1, ECX, 28, "avx"),
    (1, ECX, 29, "f16c"),
    (1, ECX, 30, "rdrand"),
    (0x8000_0001, ECX, 0, "lahf_lm"),
    (0x8000_0001, ECX, 5, "abm"),
    (0x8000_0001, ECX, 6, "sse4a"),
    (0x8000_0001, ECX, 8, "3dnowprefetch"),
    (7, EBX, 0, "fsgsbase"),
    (7, EBX, 3, "bmi1"),
    (7, EBX, 5, "avx2"),
    (7, EBX, 8, "bmi2"),
    (7, EBX, 9, "erms"),
    (7, EBX, 16, "avx512f"),
    (7, EBX, 17, "avx512dq"),
    (7, EBX, 18, "rdseed"),
    (7, EBX, 19, "adx"),
    (7, EBX, 21, "avx512ifma"),
    (7, EBX, 23, "clflushopt"),
    (7, EBX, 24, "clwb"),
    (7, EBX, 28, "avx512cd"),
    (7, EBX, 29, "sha_ni"),
    (7, EBX, 30, "avx512bw"),
    (7, EBX, 31, "avx512vl"),
    (7, ECX, 1, "avx512vbmi"),
    (7, ECX, 6, "avx512_vbmi2"),
    (7, ECX, 8, "gfni"),
    (7, ECX, 9, "vaes"),
    (7, ECX, 10, "vpclmulqdq"),
    (7, ECX, 11, "avx512_vnni"),
    (7, ECX, 12, "avx512_bitalg"),
    (7, ECX, 14, "avx512_vpopcntdq"),
    (7, ECX, 22, "rdpid"),
    (7, ECX, 25, "cldemote"),
    (7, ECX, 27, "movdiri"),
    (7, ECX, 28, "movdir64b"),
    (7, EDX, 14, "serialize"),
    (7, EDX, 23, "avx512_fp16"),
];

/// The text of leaves `first..=last`, cut at its zeros: vendor and model name.
fn string(words: impl Iterator<Item = u32>) -> String {
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn flags(processor: &Processor) -> String {
    let on = |(leaf, register, bit, _): &&(u32, usize, u32, &str)| processor.cpuid(*leaf, 0)[*register] >> bit & 1 == 1;
    let names: Vec<&str> = FLAGS.iter().filter(on).map(|f| f.3).collect();
    names.join(" ")
}

/// The whole file: a paragraph for each of the host's processors.
pub fn text(processor: &Processor) -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let [highest, b, c, d] = processor.cpuid(0, 0);
    let vendor = string([b, d, c].into_iter());
    let model_name = string((0x8000_0002..=0x8000_0004).flat_map(|n| processor.cpuid(n, 0)));
    let signature = processor.cpuid(1, 0)[0];
    // Intel SDM vol. 2, CPUID, figure 3-6: for family 6 the extended model comes before the model.
    let family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
    let model = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
    let stepping = signature & 0xf;
    let sizes = processor.cpuid(0x8000_0008, 0)[0];
    let (physical, linear) = (sizes & 0xff, sizes >> 8 & 0xff);
    let line = processor.cpuid(1, 0)[EBX] >> 8 & 0xff;
    let flags = flags(processor);
    let paragraph = |n: usize| {
        format!(
            "processor\t: {n}\n\
             vendor_id\t: {vendor}\n\
             cpu family\t: {family}\n\
             model\t\t: {model}\n\
             model name\t: {model_name}\n\
             stepping\t: {stepping}\n\
             physical id\t: 0\n\
             siblings\t: {count}\n\
             core id\t\t: {n}\n\
             cpu cores\t: {count}\n\
             apicid\t\t: {n}\n\
             initial apicid\t: {n}\n\
             fpu\t\t: yes\n\
             fpu_exception\t: yes\n\
             cpuid level\t: {highest}\n\
             wp\t\t: yes\n\
             flags\t\t: {flags}\n\
             bugs\t\t:\n\
             clflush size\t: {line_bytes}\n\
             cache_alignment\t: {line_bytes}\n\
             address sizes\t: {physical} bits physical, {linear} bits virtual\n\
             power management:\n\n",
            line_bytes = line * 8,
        )
    };
    (0..count).map(paragraph).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_cpuid_says() {
        let processor = Processor::new(None);
        let text = text(&processor);
        let value = |key: &str| {
            let line = text.lines().find(|l| l.split('\t').next() == Some(key)).unwrap();
            line.split_once(": ").unwrap().1.to_owned()
        };
        assert_eq!(value("processor"), "0");
        assert_eq!(value("vendor_id"), "GenuineIntel");
        assert_eq!(value("clflush size"), "64");
        let flags = value("flags");
        assert!(flags.split(' ').any(|f| f == "sse2"));
        let avx = processor.cpuid(1, 0)[ECX] >> 28 & 1 == 1;
        assert_eq!(flags.split(' ').any(|f| f == "avx"), avx);
    }
}
