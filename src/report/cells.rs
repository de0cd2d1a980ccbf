//! Text in terminal cells: how wide it is, and cut so that it fits. What the terminal would act on is taken out.

use unicode_width::UnicodeWidthChar as _;

/// On one line, with nothing in it that moves a cursor: control characters become spaces, what is invisible or turns the
/// direction of writing is left out.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => {
                if !clean.ends_with(' ') {
                    clean.push(' ');
                }
            }
            // Marks of direction, joiners and variation selectors: terminals disagree on their width.
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' => {}
            c => clean.push(c),
        }
    }
    clean
}

/// A name on one line: what [`clean`] would take out is written as an escape.
pub(super) fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        let mut buffer = [0; 4];
        let text = c.encode_utf8(&mut buffer);
        if clean(text) == *text {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    escaped
}

/// Cells that clean text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cells).sum()
}

fn cells(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Clean text in at most `limit` cells: what is left out is replaced by `…`.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut cut = String::new();
    let Some(mut left) = limit.checked_sub(1) else {
        return cut;
    };
    for c in text.chars() {
        let Some(rest) = left.checked_sub(cells(c)) else {
            break;
        };
        left = rest;
        cut.push(c);
    }
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_and_direction_characters_do_not_get_through() {
        assert_eq!(
            clean("RUN a\t\tb\n\u{1b}[31mc\u{202e}d\u{feff}"),
            "RUN a b [31mcd"
        );
    }

    #[test]
    fn wide_characters_take_two_cells() {
        assert_eq!(width("学习ab"), 6);
        assert_eq!(cut("学习ab", 5), "学习…");
        assert_eq!(cut("学习ab", 4), "学…");
        assert_eq!(cut("ab", 0), "");
    }

    proptest! {
        #[test]
        fn cut_text_fits(text in "\\PC{0,40}", limit in 0_usize..50) {
            let text = clean(&text);
            prop_assert!(width(&cut(&text, limit)) <= limit);
        }
    }
}
