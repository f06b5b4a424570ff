//! Commands in the form in which Redis reads them, and its replies, read no further than needed. No
//! I/O.
//!
//! ```text
//! a command   *<arguments>\r\n then each argument: $<bytes>\r\n<argument>\r\n
//! a reply     +<text>\r\n   -<code> <reason>\r\n   :<number>\r\n   $<bytes>\r\n<bulk>\r\n   $-1\r\n
//! ```
//! That is RESP2, which every Redis speaks with a client that does not ask for more. One buffer takes
//! the commands of a whole batch, without an allocation for each argument.

/// The longest line of a reply, and the longest bulk. What is sent through here is answered with an
/// id, a number, a word or a refusal.
const MOST_BYTES: usize = 64 * 1024;

/// Commands, one after the other in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    bytes: Vec<u8>,
    /// Where each begins.
    starts: Vec<usize>,
}

impl Commands {
    /// Begins a command of so many arguments, its name included. They must follow.
    pub(crate) fn begin(&mut self, arguments: usize) {
        self.starts.push(self.bytes.len());
        head(&mut self.bytes, b'*', arguments);
    }

    /// Adds an argument.
    pub(crate) fn argument(&mut self, argument: &[u8]) {
        write_argument(&mut self.bytes, argument);
    }

    /// Adds a number as an argument.
    pub(crate) fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        self.argument(decimal(&mut digits, number));
    }

    /// Adds arguments that were [written](write_argument) before.
    pub(crate) fn ready(&mut self, arguments: &[u8]) {
        self.bytes.extend_from_slice(arguments);
    }

    /// How many commands there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// As they are sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes all. The room stays.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// The arguments of the command number `index`; none when there is no such command.
    pub(crate) fn arguments(&self, index: usize) -> Arguments<'_> {
        let end = self.starts.get(index + 1).copied();
        let range = self
            .starts
            .get(index)
            .map(|start| *start..end.unwrap_or(self.bytes.len()));
        let command = range.map_or(&[][..], |range| &self.bytes[range]);
        // The line of the head.
        let (_, rest) = line(command).unwrap_or_default();
        Arguments { rest }
    }
}

/// The arguments of a command.
#[derive(Debug, Clone)]
pub(crate) struct Arguments<'c> {
    rest: &'c [u8],
}

impl<'c> Iterator for Arguments<'c> {
    type Item = &'c [u8];

    fn next(&mut self) -> Option<&'c [u8]> {
        let (head, rest) = line(self.rest)?;
        let bytes = number(head.strip_prefix(b"$")?)?;
        let argument = rest.get(..bytes)?;
        self.rest = rest.get(bytes + 2..)?;
        Some(argument)
    }
}

/// Writes an argument as it stands in a command.
pub(crate) fn write_argument(out: &mut Vec<u8>, argument: &[u8]) {
    head(out, b'$', argument.len());
    out.extend_from_slice(argument);
    out.extend_from_slice(b"\r\n");
}

fn head(out: &mut Vec<u8>, kind: u8, number: usize) {
    // Nearly all are this short.
    match u8::try_from(number) {
        Ok(small @ 0..=9) => out.extend_from_slice(&[kind, b'0' + small, b'\r', b'\n']),
        Ok(small @ 10..=99) => {
            let (tens, ones) = (b'0' + small / 10, b'0' + small % 10);
            out.extend_from_slice(&[kind, tens, ones, b'\r', b'\n']);
        }
        _ => {
            let mut digits = [0; 20];
            out.push(kind);
            out.extend_from_slice(decimal(&mut digits, number as u64));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The digits of a number.
fn decimal(digits: &mut [u8; 20], mut number: u64) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// A reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'b> {
    /// The command was done.
    Done,
    /// It was not: code and reason.
    Refused(&'b str),
}

/// What stands in a connection is no reply to what is sent through here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Reads the reply that `bytes` begin with. Gives it and how many bytes it has; `None` when not all
/// of it is there.
pub(crate) fn reply(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Unreadable> {
    let Some((line, rest)) = line(bytes) else {
        return if bytes.len() > MOST_BYTES {
            Err(Unreadable)
        } else {
            Ok(None)
        };
    };
    let head = bytes.len() - rest.len();
    match line.split_first() {
        Some((b'+' | b':', _)) => Ok(Some((Reply::Done, head))),
        Some((b'-', reason)) => {
            let reason = std::str::from_utf8(reason).unwrap_or("unreadable");
            Ok(Some((Reply::Refused(reason), head)))
        }
        Some((b'$', b"-1")) => Ok(Some((Reply::Done, head))),
        Some((b'$', length)) => {
            let length = number(length).filter(|length| *length <= MOST_BYTES);
            let whole = head + length.ok_or(Unreadable)? + 2;
            Ok((bytes.len() >= whole).then_some((Reply::Done, whole)))
        }
        _ => Err(Unreadable),
    }
}

/// The line that `bytes` begin with, and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    (bytes.get(end + 1) == Some(&b'\n')).then(|| (&bytes[..end], &bytes[end + 2..]))
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_stand_as_redis_reads_them() {
        let mut commands = Commands::default();
        commands.begin(3);
        for argument in [&b"SET"[..], b"k\r\ney", b""] {
            commands.argument(argument);
        }
        commands.begin(2);
        commands.ready(b"$3\r\nGET\r\n");
        commands.number(1_234_567_890_123);
        let expected = "*3\r\n$3\r\nSET\r\n$5\r\nk\r\ney\r\n$0\r\n\r\n\
             *2\r\n$3\r\nGET\r\n$13\r\n1234567890123\r\n";
        assert_eq!(commands.bytes(), expected.as_bytes());
        assert_eq!(commands.len(), 2);
        let arguments: Vec<&[u8]> = commands.arguments(0).collect();
        assert_eq!(arguments, [&b"SET"[..], b"k\r\ney", b""]);
        let arguments: Vec<&[u8]> = commands.arguments(1).collect();
        assert_eq!(arguments, [&b"GET"[..], b"1234567890123"]);
        assert_eq!(commands.arguments(2).count(), 0);
        for bytes in [9, 10, 99, 100, 1_000] {
            let argument = vec![b'x'; bytes];
            commands.begin(bytes);
            commands.argument(&argument);
            let last = commands.len() - 1;
            assert_eq!(commands.arguments(last).collect::<Vec<_>>(), [&argument]);
        }
        commands.clear();
        assert_eq!((commands.len(), commands.bytes().len()), (0, 0));
    }

    #[test]
    fn replies_are_read_one_by_one() {
        let check = |bytes: &str, expected: Result<Option<(Reply<'_>, usize)>, Unreadable>| {
            assert_eq!(reply(bytes.as_bytes()), expected, "{bytes:?}");
        };
        check("+OK\r\n:1\r\n", Ok(Some((Reply::Done, 5))));
        check(":12\r\n", Ok(Some((Reply::Done, 5))));
        check("$-1\r\n", Ok(Some((Reply::Done, 5))));
        check("$3\r\n1-0\r\n+", Ok(Some((Reply::Done, 9))));
        check("-ERR no\r\n", Ok(Some((Reply::Refused("ERR no"), 9))));
        for part in ["", "+", "+OK", "+OK\r", "$3\r\n1-0", "$3\r\n1-0\r"] {
            check(part, Ok(None));
        }
        for wrong in ["*1\r\n", "x\r\n", "\r\n", "$x\r\n", "$-2\r\n", "$65537\r\n"] {
            check(wrong, Err(Unreadable));
        }
        check(&"+".repeat(MOST_BYTES + 1), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_reply_or_none(bytes in any::<Vec<u8>>(), kind in prop::sample::select(&b"+-:$*"[..])) {
            let bytes = [vec![kind], bytes].concat();
            if let Ok(Some((_, length))) = reply(&bytes) {
                prop_assert!(0 < length && length <= bytes.len());
            }
        }
    }
}
