//! Bounds and reports of the folder.

use super::*;

fn file(folder: &Path, name: &str, kib: usize, hours: u64) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, vec![1; kib << 10]).unwrap();
    let used = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::options().write(true).open(&path).unwrap().set_modified(used).unwrap();
    path
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let old = file(folder.path(), "old.regions", 400, 30);
    let newer = file(folder.path(), "newer.regions", 400, 20);
    let newest = file(folder.path(), "newest.regions", 400, 10);
    let other = file(folder.path(), "notes.txt", 400, 100);
    let abandoned = file(folder.path(), ".xlate-new-abc", 400, 2);
    let young = file(folder.path(), ".xlate-new-def", 400, 0);
    assert_eq!(bound(folder.path(), 2 << 20).unwrap(), 1, "only the abandoned one");
    assert!(!abandoned.exists() && young.exists() && old.exists());
    assert_eq!(bound(folder.path(), 1 << 20).unwrap(), 2, "down to three quarters of the limit");
    assert!(!old.exists() && !newer.exists() && newest.exists() && other.exists());
}

#[test]
fn a_report_names_what_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "a.regions", 8, 0);
    let report = report(folder.path()).unwrap();
    assert_eq!((report.regions, report.files.len()), (0, 1));
    assert!(report.files[0].damage.as_ref().unwrap().contains("not a cache file"));
    assert_eq!(super::report(&folder.path().join("missing")).unwrap().files.len(), 0);
}
