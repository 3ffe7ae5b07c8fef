//! The stages of an operation's future: who has the operation, as one word.
//!
//! The word of a new operation is zero, as is all else beside the operation itself. A future is
//! moved between its making and its first poll, and words that are all zero are written and copied
//! in the widest steps, where a processor stalls that writes narrowly and reads widely.

use crate::driver::Token;

/// Who has the operation?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The future: it has not been submitted.
    Idle,
    /// The future. It will end with this result, without being submitted.
    Settled(i32),
    /// The kernel works on its memory, though the future owns it.
    InFlight(Token),
    /// Nobody: it has become its output.
    Done,
}

/// A stage in one word.
#[derive(Clone, Copy)]
pub(super) struct Packed(u64);

/// The words that are not those of tokens, by their upper halves.
const NO_TOKEN: u64 = 0;
const SETTLED: u64 = u32::MAX as u64;

const _: () =
    assert!(Token::FIRST_GENERATION as u64 > NO_TOKEN && (Token::LAST_GENERATION as u64) < SETTLED);

impl Packed {
    pub(super) const IDLE: Packed = Packed(NO_TOKEN << 32);
    const DONE: Packed = Packed(NO_TOKEN << 32 | 1);

    #[inline(always)]
    pub(super) fn unpack(self) -> Stage {
        match self.0 >> 32 {
            NO_TOKEN if self.0 == Packed::IDLE.0 => Stage::Idle,
            NO_TOKEN => Stage::Done,
            SETTLED => Stage::Settled(self.0 as i32),
            _ => Stage::InFlight(Token::from_bits(self.0)),
        }
    }
}

impl From<Stage> for Packed {
    #[inline(always)]
    fn from(stage: Stage) -> Packed {
        match stage {
            Stage::Idle => Packed::IDLE,
            Stage::Settled(result) => Packed(SETTLED << 32 | u64::from(result as u32)),
            Stage::InFlight(token) => Packed(token.to_bits()),
            Stage::Done => Packed::DONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_comes_out_of_its_word() {
        let tokens = [Token::FIRST_GENERATION, 7, Token::LAST_GENERATION].map(u64::from);
        let tokens = tokens.iter().flat_map(|generation| {
            [0, 1, 0xffff_fffe]
                .map(|index| Stage::InFlight(Token::from_bits(generation << 32 | index)))
        });
        let settled = [0, -1, -libc::ECANCELED, -511, i32::MIN, i32::MAX].map(Stage::Settled);
        for stage in tokens.chain(settled).chain([Stage::Idle, Stage::Done]) {
            assert_eq!(Packed::from(stage).unpack(), stage);
        }
    }
}
