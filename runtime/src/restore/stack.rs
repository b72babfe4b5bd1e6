//! Finds the arguments and the environment of a resumed program at the top of its stack, where the kernel put
//! them when it was started (psABI, 3.4.1: argc, argv, 0, envp, 0, auxv).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use xlate_abi::image::Image;
use xlate_abi::image::notes::Backing;

use crate::memory::Memory;

/// The strings lie within this much of the stack's end, in all sane cases (ARG_MAX's default is 2 MiB).
const SEARCHED: u64 = 4 << 20;
/// Longest argument (MAX_ARG_STRLEN).
const MAX_STRING: usize = 128 << 10;

/// Arguments and environment; `None` if they aren't where they were put.
pub fn find_strings(image: &Image, memory: &Memory) -> Option<(Vec<OsString>, Vec<OsString>)> {
    let stack = image.mappings().into_iter().find(|m| m.backing == Backing::Stack)?;
    let start = stack.start.max(stack.end.saturating_sub(SEARCHED));
    let mut bytes = vec![0; (stack.end - start) as usize];
    memory.read_guest(start, &mut bytes).ok()?;
    let words: Vec<u64> = bytes.chunks_exact(8).map(|c| u64::from_le_bytes(std::array::from_fn(|i| c[i]))).collect();
    let (args, env) = find_vectors(&words, &image.auxv)?;
    let strings = |pointers: &[u64]| {
        let read = |p: &u64| memory.read_cstr(*p, MAX_STRING).ok().map(OsString::from_vec);
        pointers.iter().map(read).collect::<Option<Vec<_>>>()
    };
    Some((strings(args)?, strings(env)?))
}

/// The argument and environment pointers in front of the auxiliary vector.
fn find_vectors<'a>(words: &'a [u64], auxv: &[(u64, u64)]) -> Option<(&'a [u64], &'a [u64])> {
    let wanted: Vec<u64> = auxv.iter().flat_map(|(kind, value)| [*kind, *value]).collect();
    if wanted.is_empty() {
        return None;
    }
    let at = words.windows(wanted.len()).rposition(|w| w == wanted)?;
    let env_end = at.checked_sub(1)?;
    let env_start = words[..env_end].iter().rposition(|w| *w == 0)? + 1;
    let args_end = env_start - 1;
    // argc in front of the arguments counts them.
    let count = (0..=args_end).find(|n| args_end > *n && words[args_end - n - 1] == *n as u64)?;
    Some((&words[args_end - count..args_end], &words[env_start..env_end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_found_before_the_auxiliary_one() {
        let auxv = [(33, 0x7000), (16, 5)];
        let words = [9, 9, 2, 0x100, 0x200, 0, 0x300, 0x400, 0x500, 0, 33, 0x7000, 16, 5, 0, 0, 7];
        let (args, env) = find_vectors(&words, &auxv).unwrap();
        assert_eq!(args, [0x100, 0x200]);
        assert_eq!(env, [0x300, 0x400, 0x500]);
        assert!(find_vectors(&words, &[(1, 1)]).is_none());
        assert!(find_vectors(&words, &[]).is_none());
    }

    #[test]
    fn no_arguments_and_no_environment() {
        let words = [0, 0, 0, 33, 1];
        assert_eq!(find_vectors(&words, &[(33, 1)]), Some((&[][..], &[][..])));
    }
}
