//! Circles of files that import each other: only those that the architecture page names, with the
//! reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::sources::{code, files};

type Module = Vec<String>;

/// The module of a file: `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// The paths of all `use` items at the top of a file, and whether each is handed on.
fn used_paths(content: &str) -> Vec<(Module, bool)> {
    // Test modules stand at the ends of files.
    let content = content.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let text = code(content).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for item in text.split(';') {
        let words: Vec<_> = item.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "use") else { continue };
        let is_handed_on = at > 0 && words[at - 1].starts_with("pub");
        expand(&words[at + 1..].concat(), &mut Vec::new(), &mut |path| {
            found.push((path, is_handed_on))
        });
    }
    found
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(tree: &str, before: &mut Module, found: &mut impl FnMut(Module)) {
    let (head, group) =
        tree.split_once('{').map_or((tree, None), |(head, group)| (head, Some(group)));
    let segments = head.split("::").filter(|segment| !segment.is_empty());
    let length = before.len();
    before
        .extend(segments.map(|segment| segment.split("as ").next().unwrap_or_default().to_owned()));
    match group.map(|group| group.trim_end_matches(',').strip_suffix('}').unwrap_or(group)) {
        None => found(before.clone()),
        Some(group) => {
            let mut depth = 0;
            let parts = group.split(|letter| {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                letter == ',' && depth == 0
            });
            parts.filter(|part| !part.is_empty()).for_each(|part| expand(part, before, found));
        }
    }
    before.truncate(length);
}

/// Which file each file takes names from, looked up through the files that only hand names on.
fn imports_of_files() -> BTreeMap<String, BTreeSet<String>> {
    let files = files();
    let by_module: BTreeMap<Module, &String> =
        files.iter().map(|(name, _)| (module_of(name), name)).collect();
    let uses: BTreeMap<Module, Vec<(Module, bool)>> =
        files.iter().map(|(name, content)| (module_of(name), used_paths(content))).collect();
    let absolute = |module: &Module, path: &Module| -> Option<Module> {
        let (mut base, mut rest) = (module.clone(), &path[..]);
        match rest.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {}
            child if by_module.contains_key(&[&base[..], &[child.to_owned()]].concat()) => {}
            _ => return None,
        }
        while rest.first().is_some_and(|segment| segment == "super") {
            base.pop();
            rest = &rest[1..];
        }
        Some([&base[..], rest].concat())
    };
    // The module that a path ends in, and the name that is taken from it.
    let split = |path: &Module| -> (Module, Option<String>) {
        let length = (0..=path.len())
            .rev()
            .find(|length| by_module.contains_key(&path[..*length]))
            .unwrap_or(0);
        (path[..length].to_vec(), path.get(length).cloned())
    };
    let follow = |path: &Module| -> Module {
        let (mut module, mut name) = split(path);
        // As many hops as there are floors.
        for _ in 0..10 {
            let handed_on =
                uses.get(&module).into_iter().flatten().filter(|(_, is_handed_on)| *is_handed_on);
            let mut sources = handed_on
                .filter(|(path, _)| path.last() == name.as_ref())
                .filter_map(|(path, _)| absolute(&module, path));
            let Some(source) = sources.next() else { break };
            (module, name) = split(&source);
        }
        module
    };
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, _) in
        files.iter().filter(|(name, _)| name != "lib.rs" && !name.ends_with("tests.rs"))
    {
        let module = module_of(name);
        for (path, is_handed_on) in &uses[&module] {
            if let (false, Some(path)) = (*is_handed_on, absolute(&module, path)) {
                let target = by_module[&follow(&path)];
                if target != name {
                    imports.entry(name.clone()).or_default().insert(target.clone());
                }
            }
        }
    }
    imports
}

/// The circles that the page names: a line for each, which begins with its files.
fn circles_of_the_page() -> BTreeSet<Vec<String>> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/architecture.md"))
        .expect("the architecture page");
    let section = page
        .split("## Circles between files")
        .nth(1)
        .expect("the section")
        .split("\n## ")
        .next()
        .unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with("- `"));
    let files = |line: &str| -> BTreeSet<String> {
        line.split('`').filter(|part| part.ends_with(".rs")).map(str::to_owned).collect()
    };
    lines.map(|line| files(line).into_iter().collect()).collect()
}

#[test]
fn files_import_each_other_in_circles_only_where_one_thing_is_in_several() {
    let imports = imports_of_files();
    let reachable = |from: &String| {
        let (mut found, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            open.extend(
                imports
                    .get(file)
                    .into_iter()
                    .flatten()
                    .filter(|next| found.insert((*next).clone())),
            );
        }
        found
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|file| (file, reachable(file))).collect();
    let circle = |file: &String| -> Vec<String> {
        reached[file]
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(file)))
            .cloned()
            .collect()
    };
    let circles: BTreeSet<Vec<String>> =
        imports.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    let known = circles_of_the_page();
    assert_eq!(circles, known, "left: found; right: on the page");
    assert!(imports.len() > 60, "the imports of the files are read");
}
