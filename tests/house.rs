//! Holds the rules of the house: who may import whom, what every file begins with, how long it may be, and where
//! `unsafe` may stand. The tables here are the ones in `docs/ARCHITECTURE.md`; a test compares them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A room, and the rooms that its code may name after `crate::`. Tests may name any.
const ROOMS: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("ops", &["tensor"]),
    ("graph", &["ops", "tensor"]),
    ("onnx", &["graph", "ops", "tensor"]),
    ("passes", &["graph", "ops", "tensor"]),
    ("kernels", &["tensor"]),
    ("plan", &["graph", "ops", "tensor", "backend", "threads"]),
    ("backend", &["ops", "tensor", "kernels", "threads"]),
    ("store", &["graph", "ops", "tensor", "kernels", "backend"]),
    ("threads", &[]),
    ("tuning", &["store"]),
    ("sched", &[]),
    ("balance", &[]),
    ("exec", &["sched", "balance", "monitor"]),
    ("monitor", &[]),
];

/// Open to every room.
const OPEN: &[&str] = &["error", "clock", "order", "sync"];

/// Where `unsafe` may stand: a folder, or a file.
const UNSAFE: &[&str] = &[
    "src/kernels/",
    "src/tensor/mapping.rs",
    "src/backend/cpu/arena.rs",
    "src/threads/team.rs",
    "src/exec/lane.rs",
    "src/exec/entry.rs",
    "src/exec/generations.rs",
    "src/exec/slots.rs",
];

/// No file is longer, its tests included.
const MOST_LINES: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every Rust file of the crate with its path from the root.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in folders {
        files(&root().join(folder), &mut paths);
    }
    assert!(!paths.is_empty());
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        (name, std::fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// The code of a file without comments, and without its test module: a `mod` with a body that is the last thing in it.
fn code(text: &str) -> String {
    let mut code = Vec::new();
    let mut tests_next = false;
    for line in text.lines() {
        let line = line.find("//").map_or(line, |at| &line[..at]);
        if tests_next && line.starts_with("mod ") && line.trim_end().ends_with('{') {
            break;
        }
        tests_next = line.starts_with("#[cfg(") && line.contains("test") || tests_next && line.trim().is_empty();
        code.push(line);
    }
    code.join("\n")
}

fn room_of(file: &str) -> Option<&str> {
    let rest = file.strip_prefix("src/")?;
    rest.split_once('/').map(|(room, _)| room)
}

/// The items of a group behind its `{`, up to the `}` that closes it.
fn items(group: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
}

/// The names that follow `crate::` in a piece of code, groups included.
fn named(code: &str) -> BTreeSet<String> {
    let name = |item: &str| item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let of_path = |path: &str| -> Vec<String> {
        match path.trim_start().strip_prefix('{') {
            Some(group) => items(group).into_iter().map(name).collect(),
            None => vec![name(path)],
        }
    };
    code.split("crate::").skip(1).flat_map(of_path).collect()
}

#[test]
fn the_rules_see_what_they_should() {
    let names = |code: &str| named(code).into_iter().collect::<Vec<_>>();
    assert_eq!(names("use crate::{ops::{Op, Attr}, graph::Graph};\ncrate::plan::Plan"), ["graph", "ops", "plan"]);
    let text = "#[cfg(test)]\nmod testing;\nuse a; // unsafe\n#[cfg(test)]\nmod tests {\nunsafe {}\n}\n";
    assert_eq!(code(text), "#[cfg(test)]\nmod testing;\nuse a; \n#[cfg(test)]");
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&["src"]) {
        let Some(room) = room_of(&file) else { continue };
        if file.contains("/tests") {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{file}: the room {room} is not in the table"));
            continue;
        };
        for name in named(&code(&text)) {
            let known = ROOMS.iter().any(|(r, _)| *r == name) || ["model", "engine"].contains(&name.as_str());
            if known && name != room && !allowed.contains(&name.as_str()) && !OPEN.contains(&name.as_str()) {
                wrong.push(format!("{file} names crate::{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_architecture_page_has_the_same_table() {
    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    for (room, allowed) in ROOMS {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{room}/`")));
        let row = row.unwrap_or_else(|| panic!("docs/ARCHITECTURE.md has no row for {room}"));
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        let listed: Vec<&str> = cell.split(", ").filter(|c| *c != "–").collect();
        assert_eq!(listed, *allowed, "row of {room}");
    }
    for place in UNSAFE {
        assert!(page.contains(&format!("`{place}`")), "docs/ARCHITECTURE.md does not name {place}");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources(&["src", "tests", "examples", "benches"])
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "these files do not open with `//!`: {silent:?}");
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources(&["src", "tests", "examples", "benches"])
        .into_iter()
        .filter(|(_, text)| text.lines().count() > MOST_LINES)
        .map(|(file, text)| format!("{file}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "split by idea: {long:?}");
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let word = |code: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
    let wrong: Vec<String> = sources(&["src"])
        .into_iter()
        .filter(|(file, text)| word(&code(text)) && !UNSAFE.iter().any(|place| file.starts_with(place)))
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "unsafe outside its rooms: {wrong:?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = ["todo!", "unimplemented!", concat!("TO", "DO"), concat!("FIX", "ME")];
    for (file, text) in sources(&["src", "examples", "benches"]) {
        for mark in marks {
            assert!(!text.contains(mark), "{file} contains {mark}");
        }
    }
}
