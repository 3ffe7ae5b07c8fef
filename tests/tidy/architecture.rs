//! The page on architecture, held against the sources: its paths and names, its drawing and its
//! map.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::sources;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn page() -> String {
    fs::read_to_string(format!("{ROOT}/src/docs/architecture.md")).expect("the page")
}

fn section(name: &str) -> String {
    let page = page();
    let rest = page
        .split(&format!("\n## {name}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("the page has no section {name}"));
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// All source files: the path below `src`, and the content.
fn files() -> BTreeMap<String, String> {
    sources::files().into_iter().collect()
}

/// What stands in backticks, outside the drawings.
fn quoted(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|quoted| quoted.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter| !is_word(letter)).filter(|word| !word.is_empty())
}

#[test]
fn every_path_on_the_page_exists() {
    let is_path = |quoted: &&String| {
        quoted.ends_with(".rs") || (quoted.contains('/') && !quoted.contains([' ', ':', '(']))
    };
    let text = page();
    let found = quoted(&text);
    let paths: Vec<_> = found.iter().filter(is_path).collect();
    assert!(paths.len() > 200, "{paths:?}");
    for path in paths {
        let exists =
            ["", "src"].iter().any(|start| Path::new(ROOT).join(start).join(path).exists());
        assert!(exists, "the page names {path}, which does not exist");
    }
}

/// Does one of these files have a type, a trait or a module of this name, with such a member?
fn has_member(files: &BTreeMap<String, String>, owner: &str, member: &str) -> bool {
    let is_head = |line: &str| {
        let kinds = ["impl", "trait", "enum", "struct", "mod"];
        let head = line.split(" where ").next().unwrap_or_default();
        line.ends_with('{')
            && words(head).any(|word| kinds.contains(&word))
            && words(head).any(|word| word == owner)
    };
    // A function, a constant, a field or a variant.
    let is_member = |line: &str| {
        let line =
            line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let after_keyword = line
            .split_once("fn ")
            .or_else(|| line.split_once("const "))
            .map_or(line, |(_, rest)| rest);
        words(after_keyword).next() == Some(member)
    };
    files.values().any(|content| {
        let lines: Vec<&str> = content.lines().collect();
        let heads = (0..lines.len()).filter(|number| is_head(lines[*number]));
        heads.into_iter().any(|number| {
            let indentation = lines[number].len() - lines[number].trim_start().len();
            let end = format!("{}}}", " ".repeat(indentation));
            lines[number + 1..].iter().take_while(|line| **line != end).any(|line| is_member(line))
        })
    })
}

#[test]
fn every_member_of_a_type_that_the_page_names_exists() {
    let files = files();
    for name in quoted(&page()) {
        if let Some((owner, member)) = name.split_once("::").filter(|_| !name.contains([' ', '/']))
        {
            assert!(
                has_member(&files, owner, member),
                "the page names {name}, which does not exist"
            );
        }
    }
    assert!(!has_member(&files, "Driver", "does_not_exist"));
}

#[test]
fn every_file_stands_on_the_map_once() {
    let map = section("The map");
    let cells = map.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut named: Vec<String> = cells.flat_map(|cell| quoted(&format!("`{cell}"))).collect();
    named.sort();
    assert_eq!(named, files().into_keys().collect::<Vec<_>>(), "left: on the map; right: in src");
}

/// The room of a file: its directory, or what it is called.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

#[test]
fn every_room_stands_in_the_drawing_of_the_floors_once() {
    let section = section("The floors");
    let rows = section.lines().filter(|line| line.contains('│'));
    let mut drawn: Vec<String> = rows
        .flat_map(|row| {
            row.split('│').skip(1).map(str::trim).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    // Behind the last box of a row stands what the floor is for.
    drawn.retain(|cell| !cell.contains(' ') || cell.is_empty());
    drawn.sort();
    let rooms: BTreeSet<String> =
        files().keys().map(|file| room(file).to_owned()).filter(|room| room != "lib").collect();
    assert_eq!(drawn, rooms.into_iter().collect::<Vec<_>>(), "left: drawn; right: in src");
}
