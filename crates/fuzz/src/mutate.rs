//! Mutations of inputs: blind, and the same in every run.

use tollgate_model::sources::Random as _;
use tollgate_testkit::SeededRandom;

/// Longest input that is made, in bytes.
const MAX_BYTES: usize = 4096;

/// Makes inputs from a corpus.
#[derive(Debug)]
pub struct Mutator {
    random: SeededRandom,
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static str],
}

// === impl Mutator ===

impl Mutator {
    /// Mutates a corpus; `words` are put in now and then.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>, words: &'static [&'static str]) -> Self {
        Self { random: SeededRandom::new(seed), corpus, words }
    }

    /// Makes the next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..1 + self.below(6) {
            self.mutate(&mut input);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let len = self.below(16).min(input.len() - at);
        match self.below(8) {
            0 => drop(input.drain(at..at + len)),
            1 => {
                let word = self.below(self.words.len());
                let word = self.words.get(word).copied().unwrap_or_default();
                input.splice(at..at, word.bytes());
            }
            2 => {
                let word = self.below(self.words.len());
                let word = self.words.get(word).copied().unwrap_or_default();
                input.splice(at..at + len, word.bytes());
            }
            3 => {
                let copied: Vec<u8> = input.get(at..at + len).unwrap_or_default().to_vec();
                input.splice(at..at, copied);
            }
            4 => {
                let other = self.pick();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            5 => {
                let byte = self.byte();
                input.insert(at, byte);
            }
            _ => {
                let byte = self.byte();
                let flip = if self.below(2) == 0 { 1 << (byte % 8) } else { byte };
                if let Some(changed) = input.get_mut(at) {
                    *changed ^= flip;
                }
            }
        }
    }

    fn pick(&mut self) -> Vec<u8> {
        let which = self.below(self.corpus.len());
        self.corpus.get(which).cloned().unwrap_or_default()
    }

    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes).expect("never runs dry");
        u32::from_le_bytes(bytes) as usize % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.random.fill(&mut byte).expect("never runs dry");
        byte[0]
    }
}
