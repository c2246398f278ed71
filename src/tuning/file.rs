//! The file of tunings: JSON, one entry for each machine and model.

use super::{Tuning, TuningKey};
use crate::error::{At, Result, ensure, err};
use crate::store;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// The layout of the file.
const FORMAT: u32 = 2;

/// Bytes of a file; a larger one is none of ours.
const MOST_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    format: u32,
    tunings: Vec<Tuning>,
}

fn read(path: &Path) -> Result<Vec<Tuning>> {
    let length = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        metadata => metadata?.len(),
    };
    ensure!(length <= MOST_BYTES, Limit, "{length} bytes are no file of tunings");
    let entries: Entries = serde_json::from_slice(&std::fs::read(path)?)
        .map_err(|e| err!(Malformed, "no file of tunings; remove it and tune again: {e}").with_source(e))?;
    ensure!(entries.format == FORMAT, Stale, "tunings in format {}; remove the file and tune again", entries.format);
    let sound = entries.tunings.iter().flat_map(|tuning| &tuning.plans).all(|plan| plan.micro_batch != Some(0));
    ensure!(sound, Malformed, "no rows at once; remove the file and tune again");
    Ok(entries.tunings)
}

impl Tuning {
    /// The entry of a file for this machine and model; `None` where it has none, or there is no file.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io), [`Malformed`](crate::ErrorKind::Malformed) or [`Stale`](crate::ErrorKind::Stale) for
    /// a file that cannot be read.
    pub fn find(path: impl AsRef<Path>, key: &TuningKey) -> Result<Option<Tuning>> {
        let path = path.as_ref();
        let tunings = read(path).at(|| path.display().to_string())?;
        Ok(tunings.into_iter().find(|tuning| tuning.key == *key))
    }

    /// Puts this entry into a file, which is made where there is none. Of an entry for the same machine and model, what
    /// was chosen for other shapes stays, unless the choice for all shapes differs.
    ///
    /// # Errors
    /// As [`find`](Tuning::find).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let save = || {
            let mut tunings = read(path)?;
            let mut own = self.clone();
            if let Some(at) = tunings.iter().position(|tuning| tuning.key == self.key) {
                let old = tunings.swap_remove(at);
                let of_all = |tuning: &Tuning| (tuning.winograd, tuning.integers, tuning.pack_rows);
                let alike = of_all(&old) == of_all(self);
                let others = old.plans.into_iter().filter(|_| alike);
                let new = |shapes: &[Vec<usize>]| self.plans.iter().all(|plan| plan.shapes != shapes);
                own.plans.extend(others.filter(|plan| new(&plan.shapes)));
            }
            tunings.push(own);
            let json = serde_json::to_vec_pretty(&Entries { format: FORMAT, tunings })
                .map_err(|e| err!(Internal, "the tunings: {e}"))?;
            store::replace(path, |to| Ok(to.write_all(&json)?))
        };
        save().at(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::tuning::TunedPlan;

    fn tuning(model: &str, winograd: bool, rows: &[usize]) -> Tuning {
        let key = TuningKey {
            processor: "p".into(),
            instruction_set: "i".into(),
            version: "0".into(),
            threads: 2,
            model: model.into(),
        };
        let plan = |&rows: &usize| TunedPlan {
            shapes: vec![vec![rows, 4]],
            micro_batch: Some(rows),
            parallel: true,
            before_ms: 2.0,
            after_ms: 1.0,
        };
        Tuning { key, winograd, integers: true, pack_rows: None, plans: rows.iter().map(plan).collect() }
    }

    #[test]
    fn entries_are_kept_by_machine_and_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tunings.json");
        let (a, b) = (tuning("a", true, &[1, 2]), tuning("b", false, &[1]));
        assert_eq!(Tuning::find(&path, &a.key).unwrap(), None);
        a.save(&path).unwrap();
        b.save(&path).unwrap();
        assert_eq!(Tuning::find(&path, &a.key).unwrap(), Some(a.clone()));
        tuning("a", true, &[2, 8]).save(&path).unwrap();
        let both = Tuning::find(&path, &a.key).unwrap().unwrap();
        assert_eq!(both.plans.len(), 3);
        assert!((both.gain() - 2.0).abs() < 1e-9 && both.to_string().contains("2.00x"));
        assert_eq!(both.plan([[8usize, 4].as_slice()].into_iter()).unwrap().micro_batch, Some(8));
        tuning("a", false, &[2]).save(&path).unwrap();
        assert_eq!(Tuning::find(&path, &a.key).unwrap().unwrap().plans.len(), 1);
        assert_eq!(Tuning::find(&path, &b.key).unwrap(), Some(b));
    }

    #[test]
    fn what_is_no_file_of_tunings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tunings.json");
        let key = tuning("a", true, &[3]).key;
        tuning("a", true, &[3]).save(&path).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        for length in 0..whole.trim_end().len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(Tuning::find(&path, &key).unwrap_err().kind(), ErrorKind::Malformed);
        }
        let format = format!("\"format\": {FORMAT}");
        let lies = [
            (&format[..], "\"format\": 0", ErrorKind::Stale),
            ("\"micro_batch\": 3", "\"micro_batch\": 0", ErrorKind::Malformed),
            ("\"micro_batch\": 3", "\"micro_batch\": -1", ErrorKind::Malformed),
            ("\"winograd\"", "\"other\"", ErrorKind::Malformed),
        ];
        for (from, to, kind) in lies {
            std::fs::write(&path, whole.replace(from, to)).unwrap();
            assert_eq!(Tuning::find(&path, &key).unwrap_err().kind(), kind, "{to}");
        }
    }
}
