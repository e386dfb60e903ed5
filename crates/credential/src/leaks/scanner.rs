//! Scans input of any length in bounded memory.

use super::{Found, Leak, WINDOW, find};

/// How much of the beginning tells whether something is text, as `git` decides it.
const SNIFFED: u64 = 8000;

/// Scans input that comes in pieces.
///
/// What was pushed is kept only as far as a key that is not all there yet may begin in it: 512 bytes beside the piece
/// itself.
#[derive(Debug)]
pub struct Scanner {
    buffer: Vec<u8>,
    /// Where the buffer's first byte stands in the input.
    at: Spot,
    binary: bool,
}

/// A place in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    /// Bytes before it.
    pub offset: u64,
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

// === impl Scanner ===

impl Scanner {
    /// Begins an input.
    pub fn new() -> Self {
        Self { buffer: Vec::new(), at: Spot { offset: 0, line: 1, column: 1 }, binary: false }
    }

    /// Takes the next piece, and returns what was found so far and not returned before.
    pub fn push(&mut self, piece: &[u8]) -> Vec<(Spot, Leak)> {
        let beginning = SNIFFED.saturating_sub(self.at.offset + self.buffer.len() as u64);
        let beginning = usize::try_from(beginning).unwrap_or(usize::MAX).min(piece.len());
        self.binary |= piece.get(..beginning).is_some_and(|piece| piece.contains(&0));
        self.buffer.extend_from_slice(piece);
        // What begins further on may not be all there.
        self.take(self.buffer.len().saturating_sub(WINDOW))
    }

    /// Ends the input, and returns what was not returned before.
    pub fn finish(&mut self) -> Vec<(Spot, Leak)> {
        self.take(self.buffer.len())
    }

    /// Tells whether the input is no text: whether a zero byte stands near its beginning.
    pub fn is_binary(&self) -> bool {
        self.binary
    }

    /// Returns what begins in the first `len` bytes of the buffer, and lets these go.
    fn take(&mut self, len: usize) -> Vec<(Spot, Leak)> {
        let mut all = Vec::new();
        let mut seen = 0;
        for Found { start, leak, .. } in find(&self.buffer).into_iter().take_while(|it| it.start < len) {
            self.at.advance(self.buffer.get(seen..start).unwrap_or_default());
            seen = start;
            all.push((self.at, leak));
        }
        self.at.advance(self.buffer.get(seen..len).unwrap_or_default());
        self.buffer.drain(..len);
        all
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Spot ===

impl Spot {
    fn advance(&mut self, over: &[u8]) {
        self.offset += over.len() as u64;
        let lines = over.iter().filter(|byte| **byte == b'\n').count() as u64;
        if lines > 0 {
            self.line += lines;
            self.column = 1;
        }
        let last = over.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        // Each character of UTF-8 has one byte that continues no other.
        self.column += last.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u64;
    }
}
