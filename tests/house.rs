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

/// Where a comment, a string or a character ends that begins at `at`, if one does; a string keeps its quotes alone.
fn skipped(text: &str, at: usize) -> Option<(usize, &'static str)> {
    let rest = &text[at..];
    if !rest.starts_with(['/', '"', '\'', 'r']) {
        return None;
    }
    let end = |length: Option<usize>| length.map_or(text.len(), |n| at + n);
    if rest.starts_with("//") {
        return Some((end(rest.find('\n')), ""));
    }
    if rest.starts_with("/*") {
        return Some((end(rest.find("*/").map(|n| n + 2)), ""));
    }
    let fresh = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let hashes = rest.strip_prefix('r').map(|r| r.len() - r.trim_start_matches('#').len()).unwrap_or(0);
    if fresh && rest[hashes.min(rest.len())..].starts_with(if hashes > 0 { '#' } else { 'r' }) && rest.starts_with('r')
    {
        let open = format!("r{}\"", "#".repeat(hashes));
        if rest.starts_with(&open) {
            let close = format!("\"{}", "#".repeat(hashes));
            return Some((end(rest[open.len()..].find(&close).map(|n| open.len() + n + close.len())), "\"\""));
        }
    }
    let quoted = |quote: char| {
        let mut escaped = false;
        let closing = rest.char_indices().skip(1).find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        closing.map(|(n, _)| n + 1)
    };
    if rest.starts_with('"') {
        return Some((end(quoted('"')), "\"\""));
    }
    // A lifetime has no second quote behind one character.
    let character = rest.starts_with("'\\") || rest.starts_with('\'') && rest.chars().nth(2) == Some('\'');
    character.then(|| (end(quoted('\'')), "' '"))
}

/// The code of a file without comments, the contents of strings, and what is compiled for tests only.
fn code(text: &str) -> String {
    let mut plain = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let (next, kept) = skipped(text, at).unwrap_or((at + c.len_utf8(), ""));
        match kept {
            "" if next == at + c.len_utf8() => plain.push(c),
            kept => plain.push_str(kept),
        }
        at = next;
    }
    let mut code = String::new();
    let mut rest = plain.as_str();
    let marks = ["#[cfg(test)]", "#[cfg(all(test,"];
    while let Some(start) = marks.iter().filter_map(|mark| rest.find(mark)).min() {
        code.push_str(&rest[..start]);
        let item = &rest[start..];
        rest = &item[end_of_item(item)..];
    }
    code + rest
}

/// Where an item ends: at the `;` or behind the `}` that is in no bracket of it.
fn end_of_item(item: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in item.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && c == '}' {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
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

/// The names that follow the path of the crate's root in the code of a file, groups included. `supers` of `super::` lead
/// there as `crate::` does.
fn named(code: &str, supers: usize) -> BTreeSet<String> {
    let name = |item: &str| -> String {
        item.trim().chars().take_while(|c| c.is_alphanumeric() || "_*".contains(*c)).collect()
    };
    let of_path = |path: &str| -> Vec<String> {
        match path.trim_start().strip_prefix('{') {
            Some(group) => items(group).into_iter().map(name).collect(),
            None => vec![name(path)],
        }
    };
    let up = "super::".repeat(supers);
    let of_crate = code.split("crate::").skip(1);
    let of_supers = code.split(&up).skip(1).filter(|path| supers > 0 && !path.starts_with("super::"));
    of_crate.chain(of_supers).flat_map(of_path).filter(|name| !name.is_empty()).collect()
}

/// How many `super::` lead from the module of a file to the crate's root.
fn depth(file: &str) -> usize {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').count()
}

/// The modules of the crate's root, and which of them what it re-exports comes from.
fn root_names() -> (BTreeSet<String>, Vec<(String, String)>) {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let lib = code(&lib);
    let modules = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    let modules = modules.map(|rest| rest.trim_end_matches([';', '{', '}', ' ']).to_owned()).collect();
    let uses = lib.split("pub use ").skip(1).filter_map(|rest| rest.split_once(';')?.0.split_once("::"));
    let exports = uses.flat_map(|(module, list)| {
        let names = list.trim_matches(['{', '}']).split(',').map(|name| name.trim().to_owned());
        names.map(move |name| (name, module.to_owned())).collect::<Vec<_>>()
    });
    (modules, exports.collect())
}

/// Whether a file is compiled for tests only, by its name.
fn for_tests(file: &str) -> bool {
    file.contains("/tests") || file.ends_with("/testing.rs")
}

#[test]
fn the_rules_see_what_they_should() {
    let names = |code: &str| named(code, 2).into_iter().collect::<Vec<_>>();
    assert_eq!(names("use crate::{ops::{Op, Attr}, graph::Graph};\ncrate::plan::Plan"), ["graph", "ops", "plan"]);
    assert_eq!(
        names("use super::near; use super::super::exec::Lane; crate::Tensor; use crate::*;"),
        ["*", "Tensor", "exec"]
    );
    assert_eq!(["src/ops/mod.rs", "src/ops/nn/mod.rs", "src/ops/nn/conv.rs"].map(depth), [1, 2, 3]);
    let text = "#[cfg(test)]\nmod testing;\nuse a; // unsafe\n#[cfg(test)]\nmod tests {\nunsafe {}\n}\nunsafe b;";
    assert_eq!(code(text).split_whitespace().collect::<Vec<_>>(), ["use", "a;", "unsafe", "b;"]);
    assert_eq!(code("#[cfg(not(test))]\nmod real { unsafe }"), "#[cfg(not(test))]\nmod real { unsafe }");
    assert_eq!(code("\"//\"; r#\"\"//\"#; '\"'; 'a; /* unsafe */ unsafe"), "\"\"; \"\"; ' '; 'a;  unsafe");
    let (modules, exports) = root_names();
    assert!(modules.contains("sched") && modules.contains("model"));
    assert!(exports.contains(&("Tensor".to_owned(), "tensor".to_owned())));
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let (modules, exports) = root_names();
    let mut wrong = Vec::new();
    for (file, text) in sources(&["src"]) {
        let Some(room) = room_of(&file).filter(|_| !for_tests(&file)) else { continue };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{file}: the room {room} is not in the table"));
            continue;
        };
        for name in named(&code(&text), depth(&file)) {
            // What the root re-exports is named in its room; macros are of no room.
            let export = exports.iter().find(|(export, _)| *export == name).map(|(_, module)| module);
            let module = export.unwrap_or(&name).as_str();
            let may = module == room || allowed.contains(&module) || OPEN.contains(&module);
            if (modules.contains(module) || module == "*") && !may {
                wrong.push(format!("{file} names crate::{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_for_tests_is_compiled_for_tests_only() {
    for (file, _) in sources(&["src"]).into_iter().filter(|(file, _)| for_tests(file)) {
        let path = Path::new(&file);
        let (folder, name) = match (path.parent().unwrap(), path.file_stem().unwrap()) {
            (folder, name) if name == "mod" => (folder.parent().unwrap(), folder.file_name().unwrap()),
            (folder, _) if folder.ends_with("tests") => continue,
            other => other,
        };
        let parent = std::fs::read_to_string(root().join(folder).join("mod.rs")).unwrap();
        let declared = format!("mod {};", name.to_string_lossy());
        assert!(parent.contains(&declared), "{file}: no {declared} in its folder's mod.rs");
        assert!(!code(&parent).contains(&declared), "{file} is declared without #[cfg(test)]");
    }
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
    // What stands beside the rooms joins them, and is listed as what may.
    for (file, _) in sources(&["src"]).iter().filter(|(file, _)| room_of(file).is_none()) {
        let name = file.trim_start_matches("src/");
        let open = OPEN.iter().any(|open| name == format!("{open}.rs"));
        assert!(open || name == "lib.rs" || page.contains(&format!("`{name}`")), "docs/ARCHITECTURE.md: no {name}");
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
