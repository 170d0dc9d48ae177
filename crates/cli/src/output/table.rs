//! Columns: cells divided by tabs, each column as wide as its widest cell and three spaces.

/// Space between columns.
const PADDING: usize = 3;
/// Least width of a column with its padding, as Docker's tables have it.
const LEAST: usize = 10;

/// Columns from lines whose cells are divided by tabs. The last cell of a line is as long as it is. A column ends where a line
/// has no such cell, so blocks of lines with other numbers of cells are set on their own.
#[must_use]
pub fn columns(text: &str) -> String {
    set(text, PADDING, LEAST)
}

fn set(text: &str, padding: usize, least: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    let mut out = String::new();
    let deepest = lines.iter().map(Vec::len).max().unwrap_or(0);
    // Width of each cell that has one after it: that of its run of neighbours above and below.
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|l| vec![0; l.len()]).collect();
    for column in 0..deepest {
        let mut start = 0;
        while start < lines.len() {
            let ended = |line: &[&str]| line.len() <= column + 1;
            if ended(&lines[start]) {
                start += 1;
                continue;
            }
            let end = (start..lines.len()).find(|i| ended(&lines[*i])).unwrap_or(lines.len());
            let widest = lines[start..end].iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
            for row in &mut widths[start..end] {
                row[column] = (widest + padding).max(least);
            }
            start = end;
        }
    }
    for (line, widths) in lines.iter().zip(&widths) {
        for (i, (cell, width)) in line.iter().zip(widths).enumerate() {
            if i + 1 == line.len() {
                out.push_str(cell);
            } else {
                out += &format!("{cell:<width$}");
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let text = "ID\tNAME\tPORTS\nabcdefghijkl\tx\t\na\tlonger name here\t*:80\n";
        let want = "ID             NAME               PORTS\nabcdefghijkl   x                  \na              longer name here   *:80\n";
        assert_eq!(columns(text), want);
    }

    #[test]
    fn narrow_columns_are_ten_wide() {
        assert_eq!(columns("A\tB\n1\t2\n"), "A         B\n1         2\n");
        assert_eq!(columns(""), "");
    }
}
