//! The first line of a script, `#! INTERPRETER [ARGUMENT]`, cut as fs/binfmt_script.c cuts it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What the kernel looks at to tell what a file is (BINPRM_BUF_SIZE). A shorter file is followed by zeros.
pub const HEAD: usize = 256;

/// The interpreter that a script names, and the one argument it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub interpreter: PathBuf,
    pub argument: Option<OsString>,
}

impl Script {
    /// Takes the first line apart; `None` if it names no interpreter, or one that the buffer may have cut off.
    /// A line that is too long loses the end of its argument.
    pub fn parse(head: &[u8; HEAD]) -> Option<Self> {
        let text = head.strip_prefix(b"#!")?;
        let mut line = first_line(text)?;
        while let [rest @ .., last] = line
            && is_blank(*last)
        {
            line = rest;
        }
        let line = &line[line.iter().position(|&b| !is_blank(b))?..];
        let end = line.iter().position(|&b| ends_word(b)).unwrap_or(line.len());
        let (interpreter, rest) = line.split_at(end);
        let start = rest.iter().position(|&b| !is_blank(b)).unwrap_or(rest.len());
        let argument = rest[start..].split(|&b| b == 0).next().unwrap_or_default();
        Some(Self {
            interpreter: OsStr::from_bytes(interpreter).into(),
            argument: (!argument.is_empty()).then(|| OsStr::from_bytes(argument).to_owned()),
        })
    }
}

/// The text up to the line's end, or all of it but the last byte if that is beyond the buffer: the word that the
/// interpreter is must have ended by then, for half a path is another path.
fn first_line(text: &[u8]) -> Option<&[u8]> {
    let until_zero = text.split(|&b| b == 0).next().unwrap_or_default();
    if let Some(end) = until_zero.iter().position(|&b| b == b'\n') {
        return Some(&text[..end]);
    }
    let start = text.iter().position(|&b| !is_blank(b))?;
    text[start..].iter().position(|&b| ends_word(b))?;
    text.split_last().map(|(_, line)| line)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn ends_word(byte: u8) -> bool {
    is_blank(byte) || byte == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: impl AsRef<[u8]>) -> Option<(String, Option<String>)> {
        let mut head = [0; HEAD];
        let line = &line.as_ref()[..line.as_ref().len().min(HEAD)];
        head[..line.len()].copy_from_slice(line);
        let text = |s: &OsStr| String::from_utf8_lossy(s.as_bytes()).into_owned();
        Script::parse(&head).map(|s| (text(s.interpreter.as_os_str()), s.argument.as_deref().map(text)))
    }

    fn some(interpreter: &str, argument: Option<&str>) -> Option<(String, Option<String>)> {
        Some((interpreter.to_owned(), argument.map(str::to_owned)))
    }

    #[test]
    fn ordinary_lines() {
        assert_eq!(parse("#! /bin/sh\nrest"), some("/bin/sh", None));
        assert_eq!(parse("#!/usr/bin/env \t -S awk -f \t\n"), some("/usr/bin/env", Some("-S awk -f")));
        assert_eq!(parse("#!/bin/sh"), some("/bin/sh", None), "the file ends there");
        assert_eq!(parse("#!/bin/sh -e"), some("/bin/sh", Some("-e")));
        assert_eq!(parse("#!/bin/sh\r\n"), some("/bin/sh\r", None));
        assert_eq!(parse("#!\n/bin/sh"), None);
        assert_eq!(parse("#! \t\n"), None);
        assert_eq!(parse("# !/bin/sh\n"), None);
    }

    #[test]
    fn zeros_end_words_and_not_lines() {
        assert_eq!(parse("#!"), some("", None), "a path that isn't found");
        assert_eq!(parse("#!/bin/sh\0x\n"), some("/bin/sh", None));
        assert_eq!(parse("#!/bin/sh a b \0x\n"), some("/bin/sh", Some("a b ")));
    }

    /// 254 bytes follow `#!`, the last of which only tells whether the word before it ends.
    #[test]
    fn long_lines() {
        let path = |n: usize| format!("/{}", "p".repeat(n - 1));
        assert_eq!(parse(format!("#!{}\n", path(253))), some(&path(253), None));
        assert_eq!(parse(format!("#!{} \n", path(253))), some(&path(253), None));
        assert_eq!(parse(format!("#!{}", path(254))), None, "perhaps cut off");
        assert_eq!(parse(format!("#!{}\n", path(254))), None, "perhaps cut off");
        assert_eq!(parse(" ".repeat(300)), None);
        assert_eq!(parse(format!("#!{}", " ".repeat(300))), None);
        let cut = "a".repeat(253 - "/bin/sh ".len());
        assert_eq!(parse(format!("#!/bin/sh {}\n", "a".repeat(300))), some("/bin/sh", Some(&cut)));
    }
}
