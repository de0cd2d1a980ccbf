//! Bytes of output, cut anywhere, to clean lines of bounded length.

use super::event::MAX_LINE;

/// Splits one stream of one step.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    /// The unfinished line, at most [`MAX_LINE`] bytes of it.
    partial: Vec<u8>,
    /// The unfinished line is longer than what is kept.
    cut: bool,
}

impl LineSplitter {
    /// The lines that these bytes finish.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.keep(&rest[..end]);
            lines.extend(self.finish());
            rest = &rest[end + 1..];
        }
        self.keep(rest);
        lines
    }

    /// The last line, when it did not end in a line break.
    pub(super) fn finish(&mut self) -> Option<String> {
        if self.partial.is_empty() && !self.cut {
            return None;
        }
        let mut line = clean(&self.partial);
        if self.cut {
            line.push('…');
        }
        self.partial.clear();
        self.cut = false;
        Some(line)
    }

    fn keep(&mut self, bytes: &[u8]) {
        // A carriage return starts the line over, as on a terminal; one just before the line break means nothing.
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let bytes = match bytes.iter().rposition(|b| *b == b'\r') {
            Some(at) => {
                self.partial.clear();
                self.cut = false;
                &bytes[at + 1..]
            }
            None => bytes,
        };
        let room = MAX_LINE - self.partial.len();
        self.cut |= bytes.len() > room;
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Text without terminal control: escape sequences and control characters other than tab are left out, so that a
/// build's output can neither colour nor move what is around it.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => clean.push(c),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

/// ECMA-48: `ESC [` … final byte `@`–`~`; `ESC ]` … BEL or `ESC \`; otherwise one more character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            chars.find(|c| ('@'..='~').contains(c));
        }
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut lines: Vec<_> = chunks
            .iter()
            .flat_map(|chunk| splitter.push(chunk))
            .collect();
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(lines(&[b"a", b"b\nc", b"\r\n\nd"]), ["ab", "c", "d"]);
    }

    #[test]
    fn progress_bars_keep_their_last_state() {
        assert_eq!(lines(&[b"10%\r50%\r100%\ndone\n"]), ["100%", "done"]);
    }

    #[test]
    fn control_sequences_are_left_out() {
        assert_eq!(
            lines(&[b"\x1b[31mred\x1b[0m \x1b]0;title\x07x\x08\n"]),
            ["red x"]
        );
    }

    #[test]
    fn long_lines_are_cut_and_marked() {
        let long = vec![b'x'; 3 * MAX_LINE];
        let cut = lines(&[&long, b"yy\nnext\n"]);
        assert_eq!(cut[0].len(), MAX_LINE + '…'.len_utf8());
        assert_eq!(cut[1], "next");
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(text in "[a-z\n]{0,60}", at in 0usize..60) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(lines(&[&bytes[..at], &bytes[at..]]), lines(&[bytes]));
        }
    }
}
