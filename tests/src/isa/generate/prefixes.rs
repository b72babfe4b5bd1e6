//! Redundant prefixes, and prefixes in other orders than assemblers write them (Intel SDM vol. 2, 2.1.1 and 2.2.1).

use super::super::values::Rng;

/// The longest instruction.
const LONGEST: usize = 15;

/// CS, DS, ES and SS, which mean nothing in 64-bit mode; the last ones are also hints and NOTRACK.
const FLAT_SEGMENTS: [u8; 4] = [0x26, 0x36, 0x2e, 0x3e];

/// The same bytes with prefixes added that should change nothing, and all legacy prefixes in another order. What it decodes
/// to is for the caller to look at: some instructions take one of these for their own.
pub fn vary(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let legacy = bytes.iter().take_while(|b| is_legacy(**b)).count();
    let (prefixes, rest) = bytes.split_at(legacy);
    let mut prefixes = prefixes.to_vec();
    let room = LONGEST.saturating_sub(bytes.len());
    let more = rng.below(4).min(room as u64);
    for _ in 0..more {
        let prefix = another(&prefixes, rng);
        let at = rng.below(prefixes.len() as u64 + 1) as usize;
        prefixes.insert(at, prefix);
    }
    for n in (1..prefixes.len()).rev() {
        prefixes.swap(n, rng.below(n as u64 + 1) as usize);
    }
    [&prefixes[..], rest].concat()
}

/// A prefix that is there already, one that means nothing here, or a REX that legacy prefixes follow, which doesn't count.
fn another(prefixes: &[u8], rng: &mut Rng) -> u8 {
    match rng.below(4) {
        0 if !prefixes.is_empty() => rng.pick(prefixes),
        1 => 0x40 | rng.below(16) as u8,
        2 => rng.pick(&[0xf2, 0xf3, 0x66]),
        _ => rng.pick(&FLAT_SEGMENTS),
    }
}

fn is_legacy(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_stay_and_length_is_bounded() {
        let mut rng = Rng::new(&[7]);
        let bytes = [0x66, 0xf0, 0x48, 0x01, 0x0f];
        let mut longest = 0;
        for _ in 0..200 {
            let varied = vary(&bytes, &mut rng);
            assert!(varied.ends_with(&bytes[2..]) && varied.len() <= LONGEST);
            longest = longest.max(varied.len());
        }
        assert_eq!(longest, bytes.len() + 3);
        assert_eq!(vary(&[0x90; LONGEST], &mut rng), [0x90; LONGEST]);
    }
}
