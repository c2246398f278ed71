//! External data: only plain files in the model's folder, only within their length.

use super::support::*;
use super::{bounded, expect};
use onrush::ErrorKind::{self, InvalidModel, Io, Malformed};
use onrush::onnx::{LoadOptions, import_path};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with `model/` in it, and in that the weights `w.bin` of two floats after four bytes of something else.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("model")).unwrap();
    let mut data = vec![9u8; 4];
    data.extend([1.5f32, 2.5].iter().flat_map(|v| v.to_le_bytes()));
    fs::write(folder.path().join("model/w.bin"), &data).unwrap();
    fs::write(folder.path().join("secret.bin"), &data).unwrap();
    folder
}

/// Writes a model whose weights lie where `entries` say, and loads it.
fn load(folder: &Path, entries: &[(&str, &str)]) -> onrush::Result<onrush::onnx::Imported> {
    let entries = entries.iter().map(|(k, v)| Message::new().text(1, k).text(2, v));
    let tensor = dims("w", F32, &[2]).messages(13, entries).int(14, 1);
    let graph = between(vec![node("Add", &["x", "w"], &["y"], &[])], vec![tensor]);
    let path = folder.join("model/model.onnx");
    fs::write(&path, graph.model(17).0).unwrap();
    bounded(|| import_path(&path, &LoadOptions::default()))
}

#[track_caller]
fn refused(folder: &Path, entries: &[(&str, &str)], kind: ErrorKind, says: &[&str]) {
    let says = [says, &["model.onnx", "tensor \"w\"", "external_data"]].concat();
    expect(load(folder, entries).map(|_| ()), kind, &says);
}

#[test]
fn data_beside_the_model_are_read() {
    let folder = folder();
    let model = load(folder.path(), &[("location", "w.bin"), ("offset", "4"), ("length", "8")]).unwrap();
    let y = model.graph.interpret(&[onrush::Tensor::vector(vec![1.0f32, 1.0])]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [2.5, 3.5]);
    assert!(load(folder.path(), &[("location", "./w.bin"), ("offset", "4")]).is_ok());
}

#[test]
fn paths_that_lead_elsewhere() {
    let folder = folder();
    let secret = folder.path().join("secret.bin");
    for location in ["../secret.bin", "sub/../../secret.bin", secret.to_str().unwrap(), "/dev/zero", "..", ""] {
        refused(folder.path(), &[("location", location)], InvalidModel, &["plain path"]);
    }
    refused(folder.path(), &[], InvalidModel, &["location is missing"]);
    let twice = [("location", "w.bin"), ("offset", "4"), ("location", "absent.bin")];
    refused(folder.path(), &twice, Malformed, &["location is given twice"]);
    refused(folder.path(), &[("location", "absent.bin")], Io, &["absent.bin"]);
    refused(folder.path(), &[("location", ".")], InvalidModel, &["not a regular file"]);
}

#[cfg(unix)]
#[test]
fn links_and_devices() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let model = folder.path().join("model");
    symlink("../secret.bin", model.join("soft.bin")).unwrap();
    refused(folder.path(), &[("location", "soft.bin")], InvalidModel, &["symbolic link"]);
    symlink("..", model.join("up")).unwrap();
    refused(folder.path(), &[("location", "up/secret.bin")], InvalidModel, &["outside the model's folder"]);
    fs::hard_link(folder.path().join("secret.bin"), model.join("hard.bin")).unwrap();
    refused(folder.path(), &[("location", "hard.bin")], InvalidModel, &["hard link"]);
    symlink("/dev/zero", model.join("zero.bin")).unwrap();
    refused(folder.path(), &[("location", "zero.bin")], InvalidModel, &["symbolic link"]);
    let socket = std::os::unix::net::UnixListener::bind(model.join("socket.bin")).unwrap();
    refused(folder.path(), &[("location", "socket.bin")], InvalidModel, &["not a regular file"]);
    drop(socket);
}

#[test]
fn offsets_and_lengths() {
    let folder = folder();
    let at = |offset, length, says: &[&str]| {
        let entries = [("location", "w.bin"), ("offset", offset), ("length", length)];
        refused(folder.path(), &entries, Malformed, says);
    };
    at("5", "8", &["pass the end", "12"]);
    at("18446744073709551615", "8", &["pass the end"]);
    at("18446744073709551616", "8", &["offset is no length"]);
    at("-4", "8", &["offset is no length"]);
    at("+4", "8", &["offset is no length"]);
    at("0", "4", &["length 4 is not the 8"]);
    at("0", "18446744073709551615", &["length"]);
    at("zero", "8", &["offset is no length"]);
}

#[test]
fn the_model_file_itself() {
    let folder = folder();
    let load = |name: &str| import_path(folder.path().join(name), &LoadOptions::default()).map(|_| ());
    expect(load("absent.onnx"), Io, &["absent.onnx"]);
    expect(load("model"), Io, &["model", "not a regular file"]);
    fs::write(folder.path().join("empty.onnx"), []).unwrap();
    expect(load("empty.onnx"), Malformed, &["empty.onnx", "empty"]);
}
