//! Opening, and which file is whose.

use super::*;

fn config(folder: &Path) -> Config {
    Config { cache: Some(folder.to_owned()), ..Config::default() }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("xlate-stored-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    path
}

fn row(pc: u64, source: u64) -> Row {
    Row { pc, offset: 0, len: 0, flags: cache::Flags(0), source, sum: 0 }
}

#[test]
fn every_program_level_and_build_has_a_file_of_its_own() {
    let base = config(Path::new("/nonexistent"));
    let name = |config: &Config, program: &str| place(config, Path::new(program)).unwrap().file;
    assert_eq!(name(&base, "/bin/a"), name(&base, "/bin/a"));
    assert_ne!(name(&base, "/bin/a"), name(&base, "/bin/b"));
    let o3 = Config { opt: xlate_abi::protocol::OptLevel::O3, ..base.clone() };
    assert_ne!(name(&base, "/bin/a"), name(&o3, "/bin/a"));
    let folder = folder("build");
    let built = Config { xlate: Some(folder.join("xlate")), ..base.clone() };
    assert!(place(&built, Path::new("/bin/a")).is_none(), "a translator that isn't there can't be identified");
    std::fs::write(folder.join("xlate-compile"), "one build").unwrap();
    let one = name(&built, "/bin/a");
    assert_ne!(name(&base, "/bin/a"), one);
    std::fs::write(folder.join("xlate-compile"), "the next build").unwrap();
    assert_ne!(name(&built, "/bin/a"), one);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(place(&Config::default(), Path::new("/bin/a")).is_none());
}

#[test]
fn only_sound_files_of_ours_are_opened() {
    let folder = folder("open");
    let place = place(&config(&folder), Path::new("/bin/a")).unwrap();
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&place.file));
    assert!(Stored::open(&place).is_none(), "missing");
    let rows: Vec<u8> = [row(1, 1), row(2, 2), row(1, 3)].iter().flat_map(Row::encode).collect();
    let bytes = [Header::new(place.context, &place.program, 3).encode(), rows].concat();
    std::fs::write(&path, &bytes).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let stored = Stored::open(&place).unwrap();
    let sources = |pc| stored.candidates(pc).iter().map(|r| r.source).collect::<Vec<_>>();
    assert_eq!([sources(1), sources(2), sources(3)], [vec![3, 1], vec![2], vec![]]);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
    assert!(Stored::open(&place).is_none(), "others can write to it");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, &bytes[..100]).unwrap();
    assert!(Stored::open(&place).is_none(), "cut off");
    let foreign = Header::new(place.context, b"/bin/b", 3).encode();
    std::fs::write(&path, &foreign).unwrap();
    assert!(Stored::open(&place).is_none(), "another program's");
    std::fs::remove_dir_all(&folder).unwrap();
}
