//! The free indices of a table. Runs of them are given out and come back; what stands there is not
//! known here.

/// A table with a fixed number of indices.
#[derive(Debug)]
pub(crate) struct FreeIndices {
    taken: Vec<bool>,
}

impl FreeIndices {
    pub(crate) fn new(count: usize) -> FreeIndices {
        FreeIndices { taken: vec![false; count] }
    }

    /// Takes the first run of `count` free indices, and returns where it begins.
    pub(crate) fn take(&mut self, count: usize) -> Option<usize> {
        let mut run = 0;
        for index in 0..self.taken.len() {
            run = if self.taken[index] { 0 } else { run + 1 };
            if run == count {
                let first = index + 1 - count;
                self.taken[first..=index].fill(true);
                return Some(first);
            }
        }
        None
    }

    /// Gives a run back.
    pub(crate) fn give_back(&mut self, first: usize, count: usize) {
        self.taken[first..first + count].fill(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_given_out_whole_and_used_again() {
        let mut indices = FreeIndices::new(10);
        assert_eq!((indices.take(4), indices.take(3), indices.take(4)), (Some(0), Some(4), None));
        assert_eq!((indices.take(3), indices.take(1)), (Some(7), None));
        indices.give_back(4, 3);
        assert_eq!((indices.take(4), indices.take(2), indices.take(2)), (None, Some(4), None));
        indices.give_back(0, 4);
        indices.give_back(4, 2);
        assert_eq!((indices.take(8), indices.take(7)), (None, Some(0)));
    }
}
