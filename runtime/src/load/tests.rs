use super::*;

#[test]
fn environment_changes() {
    let mut env: Vec<OsString> = ["A=1", "AB=2", "C=3"].map(Into::into).to_vec();
    change_environment(&mut env, &["A=9".into(), "C".into(), "D=".into()]);
    assert_eq!(env, ["A=9", "AB=2", "D="].map(OsString::from));
}

fn resolved(path: &Path, args: &[&str]) -> Result<Resolved, LoadError> {
    resolve(open_named(path)?, Some(path), args.iter().map(OsString::from).collect())
}

#[test]
fn what_cannot_be_run_is_named() {
    let text = resolved(Path::new("/etc/passwd"), &[]).unwrap_err();
    assert_eq!(text.to_string(), "/etc/passwd: not executable; `chmod +x` it if it is a program");
    assert_eq!((text.status(), text.errno()), (126, Errno(libc::EACCES)));
    let missing = resolved(Path::new("/no/such/file"), &[]).unwrap_err();
    assert_eq!((missing.status(), missing.errno()), (127, Errno(libc::ENOENT)));
    let directory = resolved(Path::new("/etc"), &[]).unwrap_err();
    assert_eq!((directory.status(), directory.errno()), (126, Errno(libc::EACCES)));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_dynamic_executable_resolves_to_itself() {
    let found = resolved(Path::new("/bin/true"), &["true"]).unwrap();
    assert_eq!(shown(&found.program.file), name(&std::fs::canonicalize("/bin/true").unwrap()));
    assert_eq!(found.args, ["true"]);
}

/// Scripts in a folder of their own, each of which is run by the one before.
#[cfg(target_arch = "x86_64")]
fn scripts(name: &str, count: usize) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = std::env::temp_dir().join(format!("xlate-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut interpreter = PathBuf::from("/bin/sh -e");
    for n in 1..=count {
        let script = dir.join(format!("s{n}"));
        std::fs::write(&script, format!("#!{}\necho hi\n", interpreter.display())).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        interpreter = script;
    }
    dir
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_script_puts_its_interpreter_first() {
    let dir = scripts("script", 1);
    let script = dir.join("s1");
    let found = resolved(&script, &["s", "x"]).unwrap();
    assert_eq!(shown(&found.program.file), name(&std::fs::canonicalize("/bin/sh").unwrap()));
    assert_eq!(found.args, ["/bin/sh".into(), "-e".into(), script.clone().into_os_string(), "x".into()]);
    let nameless = resolve(open_named(&script).unwrap(), None, Vec::new()).unwrap_err();
    assert_eq!(nameless.errno(), Errno(libc::ENOENT));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn five_scripts_may_run_each_other() {
    let dir = scripts("scripts", 6);
    let found = resolved(&dir.join("s5"), &["s"]).unwrap();
    let words = ["s1", "s2", "s3", "s4", "s5"].map(|n| dir.join(n).into_os_string());
    assert_eq!(found.args[..2], ["/bin/sh", "-e"]);
    assert_eq!(found.args[2..], words);
    assert_eq!(resolved(&dir.join("s6"), &["s"]).unwrap_err().errno(), Errno(libc::ELOOP));
    std::fs::remove_dir_all(&dir).unwrap();
}
