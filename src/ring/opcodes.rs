//! A set of opcodes, asked once for each operation.

use io_uring::Probe;

use super::catalogue;

/// A set of opcodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Opcodes([u64; 4]);

impl Opcodes {
    /// Those that the kernel says it has.
    pub(super) fn of(probe: &Probe) -> Opcodes {
        let mut opcodes = Opcodes::default();
        for opcode in (0..=u8::MAX).filter(|opcode| probe.is_supported(*opcode)) {
            opcodes.insert(opcode);
        }
        opcodes
    }

    /// Those that the software ring executes.
    pub(super) fn by_software() -> Opcodes {
        let mut opcodes = Opcodes::default();
        catalogue::operations()
            .filter(|row| row.by_software)
            .for_each(|row| opcodes.insert(row.code));
        opcodes
    }

    #[inline]
    pub(super) fn contains(&self, opcode: u8) -> bool {
        self.0[usize::from(opcode >> 6)] >> (opcode & 63) & 1 != 0
    }

    pub(super) fn insert(&mut self, opcode: u8) {
        self.0[usize::from(opcode >> 6)] |= 1 << (opcode & 63);
    }
}

#[cfg(test)]
impl Opcodes {
    pub(super) fn remove(&mut self, opcode: u8) {
        self.0[usize::from(opcode >> 6)] &= !(1 << (opcode & 63));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_inserted_and_nothing_else() {
        let chosen = [0, 1, 63, 64, 127, 128, 200, 255];
        let mut opcodes = Opcodes::default();
        chosen.iter().for_each(|opcode| opcodes.insert(*opcode));
        assert!((0..=u8::MAX).all(|opcode| opcodes.contains(opcode) == chosen.contains(&opcode)));
        chosen.iter().for_each(|opcode| opcodes.remove(*opcode));
        assert_eq!(opcodes, Opcodes::default());
    }
}
