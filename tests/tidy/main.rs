//! Rules of the sources that no lint checks: which files hold unsafe code, who imports whom, and a
//! few words and sizes.

mod architecture;
mod circles;
mod names;
mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sources::{code, files, files_of};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
/// What a reader can hold.
const MOST_LINES: usize = 700;

#[test]
fn the_files_that_may_hold_unsafe_code_are_those_of_the_architecture_page() {
    let allows = |content: &str| {
        code(content).any(|line| line.contains("allow(") && line.contains("unsafe_code"))
    };
    let found: BTreeSet<String> =
        files().into_iter().filter(|(_, content)| allows(content)).map(|(name, _)| name).collect();
    let page = fs::read_to_string(format!("{SOURCE}/docs/architecture.md"))
        .expect("the architecture page");
    let section = page
        .split("## Files that may hold unsafe")
        .nth(1)
        .expect("the section")
        .split("\n## ")
        .next()
        .unwrap_or_default();
    let listed: BTreeSet<String> = section
        .lines()
        .filter_map(|line| Some(line.strip_prefix("- `")?.split_once('`')?.0.to_owned()))
        .collect();
    assert_eq!(found, listed);
}

#[test]
fn every_file_with_unsafe_code_says_what_it_relies_on() {
    for (name, content) in files() {
        if code(&content).any(|line| line.contains("unsafe {") || line.starts_with("unsafe impl")) {
            assert!(
                content.contains("allow(unsafe_code)"),
                "{name} holds unsafe code that it does not allow"
            );
            assert!(
                content.contains("# Safety") || content.contains("// SAFETY:"),
                "{name} gives no reason"
            );
        }
        if content.contains("#![allow(unsafe_code)]") {
            assert!(
                content.contains("//! # Safety\n"),
                "{name} allows unsafe code throughout and has no paragraph on it"
            );
        }
    }
}

/// The floor of a module, as the architecture page draws it; a module imports only from lower
/// floors.
fn floor(module: &str) -> u32 {
    let page = fs::read_to_string(format!("{SOURCE}/docs/architecture.md"))
        .expect("the architecture page");
    let drawing = page
        .split("## The floors")
        .nth(1)
        .expect("the drawing")
        .split("\n## ")
        .next()
        .unwrap_or_default();
    let row = drawing.lines().find(|row| row.split('│').any(|cell| cell.trim() == module));
    let number = row.and_then(|row| row.split('│').next()?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("which floor is the module {module} on?"))
}

/// The modules of the crate that a file names.
fn imports(content: &str) -> BTreeSet<String> {
    // The test modules at the ends of files may use what they like.
    let content = content.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for line in code(content) {
        for rest in line.split("crate::").skip(1) {
            found.insert(
                rest.chars()
                    .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                    .collect::<String>(),
            );
        }
    }
    found
}

#[test]
fn modules_import_only_from_lower_floors() {
    for (name, content) in files() {
        let module = name.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        // Tests may use what they like.
        if name == "lib.rs" || name == "runtime/older_kernels.rs" || name.ends_with("/tests.rs") {
            continue;
        }
        for import in imports(&content) {
            // Names that start with a capital letter, and functions, come from `lib.rs`; the macros
            // of `net` name public items so, for docs.
            let is_public_name = matches!(import.as_str(), "Op" | "Error" | "Chunks");
            // The page of counters is below all floors.
            let is_own = import == module || import == "counters";
            if is_own || (is_public_name && module == "net") {
                continue;
            }
            assert!(
                floor(&import) < floor(module),
                "{name} is on floor {} and imports {import} of floor {}",
                floor(module),
                floor(&import)
            );
        }
    }
}

/// Who may ask the machine for anything: `sys`, and the rooms of the rings. The parts of the
/// software ring that only decide may not: they have a `World`.
fn is_at_the_door(name: &str) -> bool {
    let decides = ["ring/engine/", "ring/request/"].iter().any(|room| name.starts_with(room));
    name.starts_with("sys/") || (name.starts_with("ring/") && !decides)
}

/// What asks the machine, or owns what is its, and who else may name that, with the reason.
const WAYS_TO_THE_MACHINE: [(&str, &[&str]); 8] = [
    ("Instant::now", &[]),
    ("SystemTime::now", &[]),
    // `thread::panicking`, which asks nobody.
    ("std::thread", &["unwind.rs"]),
    ("std::env", &[]),
    // std's builder and its child, which that room wraps; and the end of a process in which nothing
    // can be trusted any more.
    (
        "std::process",
        &[
            "process/child.rs",
            "process/command.rs",
            "process/mod.rs",
            "process/orphans.rs",
            "process/stdio.rs",
            "buf/chunk_arena.rs",
        ],
    ),
    // The type in conversions.
    ("std::fs", &["fs/file/mod.rs", "fs/file/attributes.rs"]),
    // Conversions from and into what the user has.
    (
        "OwnedFd",
        &[
            "fs/dir.rs",
            "fs/file/mod.rs",
            "io/event_fd.rs",
            "io/pipe.rs",
            "io/poll_fd.rs",
            "net/adopt.rs",
            "net/tcp.rs",
            "net/tcp_socket.rs",
            "net/udp.rs",
            "net/unix/credentials.rs",
            "net/unix/datagram.rs",
            "net/unix/descriptors.rs",
            "net/unix/listener.rs",
            "net/unix/seqpacket.rs",
            "net/unix/stream.rs",
            "net/vsock.rs",
            "op/custom.rs",
            "op/unix_message.rs",
            "process/stdio.rs",
            "io/pipe.rs",
            "io/event_fd.rs",
            "io/poll_fd.rs",
        ],
    ),
    // Memory: pages, and how large they are.
    (CALL, &["buf/aligned.rs", "buf/mapping.rs"]),
];

/// A call of a function of libc, or an import from it that would hide one.
const CALL: &str = "libc::";

/// These only calculate.
const CALCULATIONS: [&str; 1] = ["makedev"];

fn names(line: &str, way: &str) -> bool {
    if way != CALL {
        return line.contains(way);
    }
    let calls = |rest: &str| {
        let end = rest
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        behind.starts_with('(') && !CALCULATIONS.contains(&name)
    };
    line.starts_with("use libc") || line.split(CALL).skip(1).any(calls)
}

/// The files that only tests have: the test modules that others declare.
fn test_files(files: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, content) in files {
        let room = name
            .trim_end_matches(".rs")
            .trim_end_matches("mod")
            .trim_end_matches("lib")
            .trim_end_matches('/');
        for rest in content.split("#[cfg(test)]\nmod ").skip(1) {
            if let Some((module, _)) = rest.split_once(';').filter(|(module, _)| {
                module.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
            }) {
                found.insert(format!("{room}/{module}.rs").trim_start_matches('/').to_owned());
            }
        }
    }
    found
}

#[test]
fn only_the_rooms_at_the_door_ask_the_machine() {
    let files = files();
    let tests = test_files(&files);
    for (name, content) in files.iter().filter(|(name, _)| !tests.contains(name)) {
        // The test module at the end of a file may use what it likes.
        let content = content.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for line in code(content) {
            let is_socket = line.contains("socket2");
            assert!(
                !is_socket || name.starts_with("sys/"),
                "{name} names socket2, which only sys/ may: {line}"
            );
            for (way, others) in WAYS_TO_THE_MACHINE {
                let may = is_at_the_door(name) || others.contains(&name.as_str());
                assert!(may || !names(line, way), "{name} asks the machine past sys/: {line}");
            }
        }
    }
}

#[test]
fn a_way_to_the_machine_is_found_where_it_is_named_and_a_constant_or_a_type_is_none() {
    for line in [
        "unsafe { libc::close(fd) }",
        "use libc::close;",
        "let c = (libc::EBADF, libc::pread64(fd));",
    ] {
        assert!(names(line, CALL), "{line}");
    }
    for line in [
        "libc::EBADF => (),",
        "let part = libc::iovec { iov_base: x };",
        "libc::makedev(a, b)",
        "fn of(x: libc::msghdr) {",
    ] {
        assert!(!names(line, CALL), "{line}");
    }
    let files = [
        ("driver.rs", "#[cfg(test)]\nmod every_kernel;\n"),
        ("op/mod.rs", "#[cfg(test)]\nmod tests;"),
        ("lib.rs", "#[cfg(test)]\nmod old;"),
        ("a.rs", "#[cfg(test)]\nmod b {\n    c();\n}\n"),
    ];
    let found = test_files(&files.map(|(name, content)| (name.to_owned(), content.to_owned())));
    assert_eq!(
        found,
        ["driver/every_kernel.rs", "old.rs", "op/tests.rs"].map(str::to_owned).into()
    );
}

/// The operations of the ring that a text names, by their codes' names: a multishot shares the code
/// of its single form.
fn operations(content: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code(content) {
        for rest in line.split("opcode::").skip(1) {
            let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric()).collect();
            found.insert(match name.as_str() {
                "AcceptMulti" => "Accept".to_owned(),
                "RecvMulti" | "RecvBundle" | "RecvMultiBundle" => "Recv".to_owned(),
                "RecvMsgMulti" => "RecvMsg".to_owned(),
                "SendBundle" => "Send".to_owned(),
                "TimeoutRemove" => "TimeoutUpdate".to_owned(),
                "AsyncCancel2" => "AsyncCancel".to_owned(),
                _ => name,
            });
        }
    }
    found
}

/// The operations of the catalogue of which it says, or does not say, that the crate makes no such
/// entries.
fn catalogue(content: &str, unused: bool) -> BTreeSet<String> {
    let sections = content
        .split("\ncatalogue! {")
        .nth(1)
        .expect("the sections")
        .split("\n}")
        .next()
        .unwrap_or_default();
    // A row is a code's name, then a string.
    let rows = code(sections).filter(|line| {
        line.split('"').next().is_some_and(|code| code.trim().chars().all(char::is_alphanumeric))
    });
    let rows = rows.filter(|row| row.contains('"') && row.contains(" Unused;") == unused);
    rows.filter_map(|row| Some(row.split_once(' ')?.0.to_owned())).collect()
}

#[test]
fn the_catalogue_has_every_operation_that_the_crate_uses_and_says_which_it_does_not_use() {
    let (own, others): (Vec<_>, Vec<_>) =
        files().into_iter().partition(|(name, _)| name == "ring/catalogue.rs");
    // The software ring reads entries that the rest of the crate writes.
    let used = others.iter().filter(|(name, _)| {
        !name.starts_with("ring/")
            || ["ring/kernel/wakes.rs", "ring/kernel/ring.rs", "ring/provided.rs", "ring/unpark.rs"]
                .contains(&name.as_str())
    });
    let used: BTreeSet<String> = used
        .flat_map(|(_, content)| {
            operations(content.split("#[cfg(test)]").next().unwrap_or_default())
        })
        .collect();
    // Tests and measurements use it.
    let used = &used | &BTreeSet::from(["Nop".to_owned()]);
    assert_eq!(used, catalogue(&own[0].1, false), "left: used; right: listed in ring/catalogue.rs");
    assert!(used.is_disjoint(&catalogue(&own[0].1, true)));
}

#[test]
fn the_root_of_the_crate_only_names_things() {
    let (_, content) = files().into_iter().find(|(name, _)| name == "lib.rs").expect("the root");
    let mut is_in_list = false;
    for line in code(&content).filter(|line| !line.is_empty()) {
        let allowed = ["mod ", "pub mod ", "pub use ", "#", "}", "struct Readme;"];
        assert!(
            is_in_list || allowed.iter().any(|start| line.starts_with(start)),
            "lib.rs holds more than names: {line}"
        );
        // A list of names may take several lines.
        is_in_list = (is_in_list || line.starts_with("pub use ")) && !line.ends_with(';');
    }
}

#[test]
fn every_file_begins_with_what_it_answers() {
    for (name, content) in files() {
        let first = content.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 10, "{name} begins with {first:?}");
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for directory in ["src", "tests", "examples", "benches"] {
        for (name, content) in files_of(directory) {
            let lines = content.lines().count();
            assert!(lines <= MOST_LINES, "{directory}/{name} has {lines} lines");
        }
    }
}

#[test]
fn nothing_is_taken_for_granted_or_left_for_later() {
    let words = [
        "unreachable_unchecked",
        "get_unchecked",
        "unwrap_unchecked",
        "todo!",
        "unimplemented!",
        "dbg!",
        "FIXME",
        "TODO",
        "XXX",
    ];
    for (name, content) in files() {
        for word in words {
            assert!(!content.contains(word), "{name} holds {word}");
        }
    }
}

/// The lines, counted from one, on which a `cfg` selects a part of a function: inside its braces,
/// at whatever depth. rustfmt puts a function's closing brace under its first letter, so
/// indentation tells where it ends.
fn cfgs_inside_functions(content: &str) -> Vec<usize> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let is_function = |line: &str| {
        let words: Vec<_> =
            line.split(['(', '<', '"']).next().unwrap_or_default().split_whitespace().collect();
        words.contains(&"fn")
            && !line.trim_start().starts_with("//")
            && !line.ends_with(';')
            && !line.ends_with('}')
    };
    let mut function = None;
    let mut found = Vec::new();
    for (number, line) in content.lines().enumerate() {
        let is_end = line.trim_start().starts_with('}') && Some(indentation(line)) == function;
        let has_cfg = (line.trim_start().starts_with("#[cfg") && function.is_some())
            || line.contains("cfg!(");
        if has_cfg {
            found.push(number + 1);
        }
        if is_end {
            function = None;
        } else if function.is_none() && is_function(line) {
            function = Some(indentation(line));
        }
    }
    found
}

#[test]
fn no_function_has_a_cfg_inside() {
    for (name, content) in files() {
        let found = cfgs_inside_functions(&content);
        assert!(
            found.is_empty(),
            "{name}: {found:?}: a cfg selects a module or an item, not a part of a function"
        );
    }
}

#[test]
fn a_cfg_inside_a_function_is_found_at_every_depth_and_one_in_front_of_it_is_not() {
    let text = "
impl Thing {
    #[cfg(test)]
    pub(crate) fn short(&self) {}

    fn method<T>(
        &self,
    ) -> u32 {
        #[cfg(unix)]
        one();
        if two() {
            #[cfg_attr(unix, allow(unused))]
            let three = 3;
        }
    }

    #[cfg(unix)]
    const FOUR: u32 = 4;
}

fn free() {
    #[cfg(unix)]
    five();
    let _six = cfg!(unix);
}

mod seven {
    #[cfg(unix)]
    fn eight() {}
}
";
    assert_eq!(cfgs_inside_functions(text), [9, 12, 22, 24]);
}

/// The targets of a text's links that are paths.
fn linked_paths(text: &str) -> BTreeSet<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    targets.filter(|target| !target.contains("://")).map(|target| target.to_owned()).collect()
}

#[test]
fn the_front_pages_link_to_what_exists_and_the_readme_to_every_guide_and_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |page: &str| fs::read_to_string(root.join(page)).expect("a page");
    for page in ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"] {
        for path in linked_paths(&read(page)) {
            assert!(root.join(&path).exists(), "{page} links to {path}, which does not exist");
        }
    }
    let linked = linked_paths(&read("README.md"));
    for directory in ["src/docs", "examples"] {
        for entry in fs::read_dir(root.join(directory)).expect("a directory") {
            let name = entry.expect("an entry").file_name().into_string().expect("text");
            let path = format!("{directory}/{name}");
            assert!(linked.contains(&path), "README.md does not link to {path}");
        }
    }
}
