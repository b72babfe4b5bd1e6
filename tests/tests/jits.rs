//! Programs that write code at run time and execute it: a tracing compiler, a compiler of regular expressions, closures
//! made by a library; and a JavaScript engine. Natively and under every mix of tiers, on both hosts.

use std::path::{Path, PathBuf};

use xlate_tests::guest::{ARM_MODES, MODES, Mode, compile, root, same_in};

fn script(name: &str) -> String {
    let path: PathBuf = root().join("tests/programs").join(name);
    path.into_os_string().into_string().expect("the project's path is UTF-8")
}

fn luajit(modes: &[Mode]) {
    same_in(modes, Path::new("/usr/bin/luajit"), &[&script("hot.lua")]);
}

fn pcre2(modes: &[Mode]) {
    same_in(modes, Path::new("/usr/bin/pcre2test"), &["-q", &script("patterns.txt")]);
}

fn mujs(modes: &[Mode]) {
    same_in(modes, Path::new("/usr/bin/mujs"), &[&script("hot.js")]);
}

fn closures(modes: &[Mode]) {
    // The library is named before what needs it.
    let program = compile("features", "closures", &["-O2", "-Wl,--no-as-needed", "-lffi"]);
    same_in(modes, &program, &[]);
}

macro_rules! on_both_hosts {
    ($($name:ident)*) => {
        mod native {
            use super::*;
            $(#[test]
            fn $name() {
                super::$name(&MODES);
            })*
        }
        mod aarch64 {
            use super::*;
            $(#[test]
            fn $name() {
                super::$name(&ARM_MODES);
            })*
        }
    };
}

on_both_hosts! { luajit pcre2 mujs closures }
