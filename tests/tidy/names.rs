//! The table of the names of std and tokio: each row says where a call is and who does it, or that
//! it is not here.

/// The rows of the tables with four columns, without their heads.
fn rows() -> Vec<Vec<&'static str>> {
    let page = include_str!("../../src/docs/names.md");
    let cells =
        |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    page.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"))
        .map(cells)
        .filter(|row| row.len() != 2 && row[0] != "std")
        .collect()
}

#[test]
fn each_row_of_the_table_of_names_says_where_a_call_is_and_who_does_it_or_that_it_is_not_here() {
    let rows = rows();
    assert!(rows.len() > 150, "the page is read");
    for row in rows {
        let [std, tokio, here, by] = row[..] else { panic!("a row of four cells: {row:?}") };
        let is_absent = here.starts_with("not here") || here.starts_with("std's: ");
        assert_ne!(here, "", "{std} {tokio}");
        assert_eq!(by.is_empty(), is_absent, "{std} {tokio}: {here} by {by:?}");
    }
}
