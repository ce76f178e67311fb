//! Tables that fit the terminal: columns as wide as their widest cell, cut where the terminal is narrower.

use unicode_width::UnicodeWidthChar as _;
use unicode_width::UnicodeWidthStr as _;

/// Terminal cells between two columns.
const GAP: usize = 2;
/// The narrowest that a column that may be cut gets, if it has more: enough to recognize an agent or a task.
const MIN_CUT_WIDTH: usize = 10;

/// What a column is called, and what happens to it on a narrow terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The header, in capitals.
    pub title: &'static str,
    /// Whether cells that are too long are cut. The others are whole however narrow the terminal is.
    pub may_be_cut: bool,
    /// Whether the column is left out where the table does not fit otherwise, the last such column first.
    pub may_be_dropped: bool,
}

impl Column {
    /// A column whose cells are always whole, such as ids and ages.
    pub const fn whole(title: &'static str) -> Self {
        Self { title, may_be_cut: false, may_be_dropped: false }
    }

    /// A column whose cells are cut where the terminal is too narrow.
    pub const fn cut(title: &'static str) -> Self {
        Self { title, may_be_cut: true, may_be_dropped: false }
    }

    /// A column that a narrow terminal cuts, and a narrower one does without.
    pub const fn cut_extra(title: &'static str) -> Self {
        Self { title, may_be_cut: true, may_be_dropped: true }
    }

    /// A column that a narrow terminal does without.
    pub const fn extra(title: &'static str) -> Self {
        Self { title, may_be_cut: false, may_be_dropped: true }
    }
}

/// Lays out rows below a header, without trailing space, one line each. `width` is the terminal's, in cells; `None` where
/// there is no terminal, and nothing is cut then.
pub fn lines(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let header: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let rows: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let natural = natural_widths(columns.len(), &rows);
    let kept = kept(columns, &natural, width);
    let of = |values: &[usize]| kept.iter().map(|at| values[*at]).collect::<Vec<_>>();
    let columns: Vec<Column> = kept.iter().map(|at| columns[*at]).collect();
    let widths = fit(&columns, of(&natural), width);
    let cells = |row: &&Vec<String>| kept.iter().filter_map(|at| row.get(*at)).cloned().collect::<Vec<_>>();
    rows.iter().map(|row| line(&cells(row), &widths)).collect()
}

/// The lines of a table as one text.
pub fn text(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> String {
    lines(columns, rows, width).into_iter().flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// A text cut to `width` cells; an ellipsis marks the cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut shown, mut used) = (String::new(), 1);
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        shown.push(character);
    }
    format!("{}…", shown.trim_end())
}

fn natural_widths(columns: usize, rows: &[&Vec<String>]) -> Vec<usize> {
    let widest = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.width())).max();
    (0..columns).map(|column| widest(column).unwrap_or(0)).collect()
}

/// The places of the columns that are shown: without extra ones, from the right, until the others fit at their narrowest.
fn kept(columns: &[Column], natural: &[usize], width: Option<usize>) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let Some(width) = width else { return kept };
    let narrowest =
        |at: &usize| if columns[*at].may_be_cut { natural[*at].min(MIN_CUT_WIDTH) } else { natural[*at] };
    while kept.iter().map(narrowest).sum::<usize>() + GAP * kept.len().saturating_sub(1) > width {
        let Some(last) = kept.iter().rposition(|at| columns[*at].may_be_dropped) else { break };
        kept.remove(last);
    }
    kept
}

/// Takes cells from the columns that may be cut, always from the widest one, until the table fits or all are at their
/// narrowest.
fn fit(columns: &[Column], mut widths: Vec<usize>, width: Option<usize>) -> Vec<usize> {
    let Some(width) = width else { return widths };
    let gaps = GAP * widths.len().saturating_sub(1);
    loop {
        let excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
        let cuttable = |at: &usize| columns[*at].may_be_cut && widths[*at] > MIN_CUT_WIDTH;
        let Some(widest) = (0..widths.len()).filter(cuttable).max_by_key(|at| widths[*at]) else {
            return widths;
        };
        if excess == 0 {
            return widths;
        }
        widths[widest] -= 1;
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| {
        let cell = cut(cell, *width);
        let padding = " ".repeat(width.saturating_sub(cell.width()));
        cell + &padding
    });
    cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::whole("ID"), Column::cut("AGENT"), Column::cut("TASK")];

    fn rows(rows: &[[&str; 3]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = rows(&[["1", "a", "x"], ["22", "analyst", "y"]]);
        assert_eq!(text(&COLUMNS, &rows, None), "ID  AGENT    TASK\n1   a        x\n22  analyst  y\n");
    }

    #[test]
    fn the_widest_column_is_cut_first_and_none_below_its_minimum() {
        let rows = rows(&[["12345678", "an_agent_with_a_name", "a task of thirty-two characters."]]);
        assert_eq!(lines(&COLUMNS, &rows, Some(50))[1], "12345678  an_agent_with_a_na…  a task of thirty-t…");
        assert_eq!(lines(&COLUMNS, &rows, Some(10))[1], "12345678  an_agent_…  a task of…");
        for width in [36, 40, 50, 60, 70] {
            assert!(lines(&COLUMNS, &rows, Some(width)).iter().all(|line| line.width() <= width), "{width}");
        }
    }

    #[test]
    fn extra_columns_are_left_out_where_the_others_need_the_room() {
        let columns =
            [Column::whole("ID"), Column::extra("PID"), Column::cut("TASK"), Column::extra("VERSION")];
        let row = vec![["12345678", "4711", "a task", "0.1.0"].map(str::to_owned).to_vec()];
        for (width, header) in
            [(40, "ID        PID   TASK    VERSION"), (25, "ID        PID   TASK"), (20, "ID        TASK")]
        {
            assert_eq!(lines(&columns, &row, Some(width))[0], header, "{width}");
        }
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        let rows = rows(&[["1", "日本", "x"], ["2", "ab", "y"]]);
        assert_eq!(lines(&COLUMNS, &rows, None)[1..], ["1   日本   x", "2   ab     y"]);
    }
}
