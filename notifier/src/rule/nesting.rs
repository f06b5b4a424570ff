//! Keeps tables in tables in tables from the TOML library.
//!
//! It bounds the parts of a key and how deep inline tables nest, by 80 each, but not their product:
//! `a.a.a…a = {a.a.a…a = {…` of 13 KB becomes 6,000 tables in one another, and to drop them takes more stack
//! than a thread has. No key of a rule has more than three parts.

/// The most dots in one key.
const MAX_DOTS: u32 = 8;

/// The offset of the first key of `text` that has too many parts.
pub(crate) fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut dots) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = string_end(bytes, at);
                continue;
            }
            b'#' => {
                at = line_end(bytes, at);
                continue;
            }
            b'=' | b',' | b'[' | b']' | b'{' | b'}' | b'\n' => dots = 0,
            b'.' => dots += 1,
            _ => {}
        }
        if dots > MAX_DOTS {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Where the string that begins at `start` is over. One that is not closed ends with its line, or, when
/// it may have several lines, with the text.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let triple = [quote; 3];
    let long = bytes[start..].starts_with(&triple);
    let mut at = start + if long { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == b'"' && bytes.get(at + 1) != Some(&b'\n') => at += 1,
            b'\n' if !long => return at,
            _ if long && bytes[at..].starts_with(&triple) => return at + 3,
            byte if *byte == quote && !long => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let line = rest.iter().position(|byte| *byte == b'\n');
    line.map_or(bytes.len(), |length| at + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_many_parts_are_too_deep() {
        let check = |text: &str, expected: bool| {
            assert_eq!(too_deep(text).is_some(), expected, "{text}");
        };
        let chain = "a.".repeat(9);
        check("a.b.c = 1.5", false);
        check("summary = \"... ... ... ... ...\"", false);
        check(
            "a = '..........'\nb = \"\"\"..........\n..........\"\"\"",
            false,
        );
        check("# ..........", false);
        check(
            "a = [\"a.b.c.d.e\", \"a.b.c.d.e\", 1.5, 1.5, 1.5, 1.5]",
            false,
        );
        check(&format!("{chain}a = 1"), true);
        check(&format!("[{chain}a]"), true);
        check(&format!("[[{chain}a]]"), true);
        check(&format!("a = {{ {chain}a = 1 }}"), true);
        check(&"\"a\" . ".repeat(10), true);
        check(&format!("a = \"not closed\n{chain}a = 1"), true);
        check(&format!("a = \"\\\"\"\n{chain}a = 1"), true);
        check(&format!("a = '\\'\n{chain}a = 1"), true);
        check("\"", false);
        check("'''", false);
    }
}
