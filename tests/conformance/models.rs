//! The real models in `../shared/models`, each data set.

use super::compare::{self, Tolerance};
use super::{routes, suite};
use std::path::Path;
use std::time::Instant;

const MODELS: [&str; 5] = ["magika_v3_3", "mnist", "silero_vad", "squeezenet_fp16", "ultraface_rfb320"];

/// Models that are too much for every route in a quick test; the others have what is special in theirs.
const OPTIMIZED_ONLY: [&str; 3] = ["magika_v3_3", "squeezenet_fp16", "ultraface_rfb320"];

#[test]
fn real_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    if !folder.is_dir() {
        let required = std::env::var("ONRUSH_REQUIRE_SHARED").is_ok_and(|v| v == "1");
        assert!(!required, "{} is missing, and ONRUSH_REQUIRE_SHARED is set", folder.display());
        println!("skipped: no models at {}", folder.display());
        return;
    }
    let mut faults = Vec::new();
    for name in MODELS {
        let model = bytes::Bytes::from(std::fs::read(folder.join(name).join("model.onnx")).expect("a model"));
        let mut sets = 0;
        for set in 0.. {
            let data = folder.join(name).join(format!("test_data_set_{set}"));
            if !data.is_dir() {
                break;
            }
            sets += 1;
            let inputs = suite::tensors(&data, "input").expect("inputs");
            let expected = suite::tensors(&data, "output").expect("outputs");
            for route in routes::ROUTES {
                if OPTIMIZED_ONLY.contains(&name) && route.name != "optimized" {
                    continue;
                }
                let start = Instant::now();
                let result = (route.run)(model.clone(), &inputs).map_err(|e| e.to_string());
                let result = result.and_then(|o| compare::all(&o, &expected, Some(Tolerance::MODEL)));
                println!("{name} set {set} {}: {:?} {result:?}", route.name, start.elapsed());
                faults.extend(result.err().map(|e| format!("{name}, set {set}, {}: {e}", route.name)));
            }
        }
        assert!(sets > 0, "{name} has no data");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
