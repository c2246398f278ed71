//! Finding the suite, unpacking it, and reading its cases.

use onrush::{Result, Tensor, onnx};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tiers with the number of cases that each must have.
const TIERS: [(&str, usize); 3] = [("first", 747), ("full", 423), ("stretch", 227)];

pub(crate) struct Suite {
    folder: PathBuf,
    tiers: serde_json::Value,
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) tier: &'static str,
    pub(crate) tier_index: usize,
    pub(crate) model: Vec<u8>,
    pub(crate) data: PathBuf,
}

/// The suite, or `None` after saying why there is none.
pub(crate) fn find() -> Option<Suite> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/conformance");
    let required = std::env::var("ONRUSH_REQUIRE_SHARED").is_ok_and(|v| v == "1");
    let Ok(tiers) = fs::read_to_string(shared.join("tiers.json")) else {
        assert!(!required, "{} has no conformance suite, and ONRUSH_REQUIRE_SHARED is set", shared.display());
        println!("skipped: no conformance suite at {}", shared.display());
        return None;
    };
    let folder = match std::env::var_os("ONRUSH_CONFORMANCE") {
        Some(folder) => PathBuf::from(folder),
        None => unpack(&shared, &root.join("target/conformance")),
    };
    Some(Suite { folder, tiers: serde_json::from_str(&tiers).expect("tiers.json is JSON") })
}

/// Unpacks beside the target and renames, so that an interrupted run leaves nothing half done.
fn unpack(shared: &Path, target: &Path) -> PathBuf {
    let folder = target.join("node");
    if folder.is_dir() {
        return folder;
    }
    let archive = fs::read_dir(shared).expect("the folder exists").flatten().map(|e| e.path());
    let archive = archive.filter(|p| p.to_string_lossy().ends_with(".tar.xz")).max().expect("an archive of cases");
    let part = target.join(format!("unpacking-{}", std::process::id()));
    fs::create_dir_all(&part).expect("a folder below target");
    let status = Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(&part).status().expect("tar runs");
    assert!(status.success(), "tar fails on {}", archive.display());
    if fs::rename(part.join("node"), &folder).is_err() {
        assert!(folder.is_dir(), "the cases cannot be put in {}", folder.display());
    }
    let _ = fs::remove_dir_all(part);
    folder
}

impl Suite {
    /// Every case of every tier; one that is missing is a failure, not a skip.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Case> {
        TIERS.iter().enumerate().flat_map(move |(tier_index, (tier, count))| {
            let names = self.tiers[tier].as_array().expect("tiers.json lists the cases of each tier");
            assert!(names.len() >= *count, "{} cases in {tier}, not {count}", names.len());
            names.iter().map(move |name| {
                let name = name.as_str().expect("names are strings").to_owned();
                let folder = self.folder.join(&name);
                let model = fs::read(folder.join("model.onnx")).unwrap_or_else(|e| panic!("{name}: {e}"));
                Case { name, tier, tier_index, model, data: folder.join("test_data_set_0") }
            })
        })
    }
}

/// The tensors `{kind}_0.pb`, `{kind}_1.pb` and so on.
pub(crate) fn tensors(folder: &Path, kind: &str) -> Result<Vec<Tensor>> {
    (0..)
        .map_while(|i| fs::read(folder.join(format!("{kind}_{i}.pb"))).ok())
        .map(|bytes| Ok(onnx::read_tensor(&bytes)?.1))
        .collect()
}
