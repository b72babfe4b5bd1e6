use super::*;

#[test]
fn script_lines() {
    let parse = |line: &str| parse_script(line.as_bytes());
    assert_eq!(parse(" /bin/sh\nrest"), Some(("/bin/sh".into(), None)));
    assert_eq!(parse("/usr/bin/env  -S awk -f \n"), Some(("/usr/bin/env".into(), Some("-S awk -f".into()))));
    assert_eq!(parse("\n/bin/sh"), None);
}

#[test]
fn environment_changes() {
    let mut env: Vec<OsString> = ["A=1", "AB=2", "C=3"].map(Into::into).to_vec();
    change_environment(&mut env, &["A=9".into(), "C".into(), "D=".into()]);
    assert_eq!(env, ["A=9", "AB=2", "D="].map(OsString::from));
}

#[test]
fn what_cannot_be_run_is_named() {
    let text = resolve(Path::new("/etc/passwd"), &[]).unwrap_err();
    assert_eq!(text.to_string(), "/etc/passwd: not executable; `chmod +x` it if it is a program");
    assert_eq!((text.status(), text.errno()), (126, Errno(libc::EACCES)));
    let missing = resolve(Path::new("/no/such/file"), &[]).unwrap_err();
    assert_eq!((missing.status(), missing.errno()), (127, Errno(libc::ENOENT)));
    let directory = resolve(Path::new("/etc"), &[]).unwrap_err();
    assert_eq!(directory.status(), 126);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_dynamic_executable_resolves_to_itself() {
    let args = ["true".into()];
    let resolved = resolve(Path::new("/bin/true"), &args).unwrap();
    assert_eq!(resolved, Resolved { path: "/bin/true".into(), args: args.to_vec() });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_script_puts_its_interpreter_first() {
    let dir = std::env::temp_dir().join(format!("xlate-script-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let script = dir.join("s");
    std::fs::write(&script, "#!/bin/sh -e\necho hi\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let resolved = resolve(&script, &["s".into(), "x".into()]).unwrap();
    assert_eq!(resolved.path, Path::new("/bin/sh"));
    assert_eq!(resolved.args, ["/bin/sh".into(), "-e".into(), script.clone().into_os_string(), "x".into()]);
    std::fs::remove_dir_all(&dir).unwrap();
}
