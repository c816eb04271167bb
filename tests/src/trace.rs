//! A trace of system calls as strace writes it (`-f -yy`), read into events: when a call began, when it returned.
//!
//! strace writes each line when it happens; a call that another thread's line interrupts is written in two halves,
//! `<unfinished ...>` and `<... NAME resumed>`. What matters here is the order of the halves, not the clock.

use std::collections::BTreeMap;

/// A system call, from its beginning to its return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Its name.
    pub name: String,
    /// The file or socket behind its first argument, as `-yy` shows it.
    pub target: String,
    /// All its arguments as written.
    pub arguments: String,
    /// What it returned.
    pub result: i64,
    /// Its place in the trace when it began.
    pub began: usize,
    /// Its place in the trace when it returned.
    pub ended: usize,
}

/// All calls that returned, in the order of their return.
pub fn read(text: &str) -> Vec<Syscall> {
    let mut open: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let (pid, rest) = split_pid(line);
        let (began, whole) = if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((began, start)) = open.remove(pid) else {
                continue;
            };
            let Some((_, end)) = resumed.split_once(" resumed>") else {
                continue;
            };
            (began, start + end)
        } else if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            open.insert(pid, (at, start.to_owned()));
            continue;
        } else {
            (at, rest.to_owned())
        };
        calls.extend(syscall(&whole, began, at));
    }
    calls
}

/// With `-f -o` every line begins with the thread's id.
fn split_pid(line: &str) -> (&str, &str) {
    match line.split_once(' ') {
        Some((pid, rest)) if pid.bytes().all(|byte| byte.is_ascii_digit()) => (pid, rest.trim_start()),
        _ => ("", line),
    }
}

fn syscall(text: &str, began: usize, ended: usize) -> Option<Syscall> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let target = arguments
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once(">").map(|(target, _)| target));
    // A socket's name holds `>` itself: `TCP:[127.0.0.1:1->127.0.0.1:2]`.
    let target = match arguments.split_once('<') {
        Some((_, rest)) if rest.starts_with("TCP:[") => rest.split_once(']').map(|(target, _)| target),
        _ => target,
    };
    let digits = result.split([' ', '<']).next()?;
    Some(Syscall {
        name: name.trim().to_owned(),
        target: target.unwrap_or_default().to_owned(),
        arguments: arguments.to_owned(),
        result: digits.parse().ok()?,
        began,
        ended,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_joined_and_keep_their_places() {
        let text = "\
7 fdatasync(9</d/log/1>) = 0
7 fdatasync(9</d/log/1> <unfinished ...>
8 write(5<TCP:[127.0.0.1:7->127.0.0.1:8]>, \"HTTP/1.1 200\"..., 99) = 99
7 <... fdatasync resumed>)              = 0
8 recvfrom(5<TCP:[127.0.0.1:7->127.0.0.1:8]>, 0x7, 8, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
7 +++ exited with 0 +++
";
        let calls = read(text);
        let seen: Vec<_> = calls
            .iter()
            .map(|call| (call.name.as_str(), call.result, call.began, call.ended))
            .collect();
        assert_eq!(
            seen,
            [
                ("fdatasync", 0, 0, 0),
                ("write", 99, 2, 2),
                ("fdatasync", 0, 1, 3),
                ("recvfrom", -1, 4, 4)
            ]
        );
        assert_eq!(calls[0].target, "/d/log/1");
        assert_eq!(calls[1].target, "TCP:[127.0.0.1:7->127.0.0.1:8");
    }
}
