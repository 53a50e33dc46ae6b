//! What the program prints: names from files cannot speak to the terminal, and a stream that takes nothing is no panic.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// The text with control characters written out, except for line ends and tabs; `\u{1b}` in place of an escape. So are
/// characters that turn the direction of writing.
pub fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, |c| c != '\n' && c != '\t')
}

/// A name in one line: the same with line ends and tabs written out too.
pub fn printable(text: &str) -> Cow<'_, str> {
    written_out(text, |_| true)
}

fn written_out(text: &str, wanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let hidden = |c: char| (c.is_control() || turns(c)) && wanted(c);
    if !text.contains(hidden) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match hidden(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out.into()
}

/// A line, or several, on standard output.
///
/// # Errors
/// Standard output takes no more, such as a full disk. A reader that has left has seen enough: no error.
pub fn print(text: &str) -> Result<()> {
    print_raw(&format!("{}\n", visible(text)))
}

/// Text of this program's own making on standard output, colours and all.
///
/// # Errors
/// As [`print()`].
pub fn print_raw(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written_to_output(written)
}

/// What became of writing to standard output.
///
/// # Errors
/// As [`print()`].
pub fn written_to_output(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// A line, or several, on standard error; there is nobody to tell where that takes nothing.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_speak_to_the_terminal() {
        assert_eq!(visible("a\u{1b}[31mb\r\x07"), "a\\u{1b}[31mb\\r\\u{7}");
        assert_eq!(visible("two\nlines\tλ ü 名"), "two\nlines\tλ ü 名");
        assert_eq!(printable("two\nlines"), "two\\nlines");
        assert_eq!(visible("\u{202e}evil\u{9b}31m"), "\\u{202e}evil\\u{9b}31m");
    }
}
