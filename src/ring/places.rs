//! Which places of a table are free? Runs of them are given out and come back; what stands there is not known here.

/// A table with a fixed number of places.
#[derive(Debug)]
pub(crate) struct Places {
    taken: Vec<bool>,
}

impl Places {
    pub(crate) fn new(count: usize) -> Places {
        Places { taken: vec![false; count] }
    }

    /// Takes the first run of `count` free places, and returns where it begins.
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
        let mut places = Places::new(10);
        assert_eq!((places.take(4), places.take(3), places.take(4)), (Some(0), Some(4), None));
        assert_eq!((places.take(3), places.take(1)), (Some(7), None));
        places.give_back(4, 3);
        assert_eq!((places.take(4), places.take(2), places.take(2)), (None, Some(4), None));
        places.give_back(0, 4);
        places.give_back(4, 2);
        assert_eq!((places.take(8), places.take(7)), (None, Some(0)));
    }
}
