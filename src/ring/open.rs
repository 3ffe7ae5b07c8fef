//! The way to a ring: the kernel's where the machine grants it, with what it needs beside it, else
//! the software ring.

use std::io;
use std::sync::Arc;

use super::choice::{self, Reason};
use super::config::{Config, RingKind};
use super::host::Host;
use super::hybrid::{Hybrid, Lacking};
use super::in_force::Ring;
use super::iopoll::Iopoll;
use super::kernel::KernelRing;
use super::software::SoftwareRing;
#[cfg(test)]
use super::world::World;

impl Ring {
    /// Opens the best ring that the machine grants. The calling thread becomes its owner: all other
    /// calls come from it.
    pub(crate) fn open(config: &Config) -> io::Result<Ring> {
        let (kind, reason) = match choice::asked_for(config.kind)? {
            Some(asked) => asked,
            None => match KernelRing::open(config) {
                Ok(ring) => return Ring::on(ring, config),
                Err(error) => {
                    let refusal = choice::refusal_of_io_uring(error)?;
                    return match Host::open(config.workers) {
                        Ok(host) => Ok(software(host, config, Reason::Refused(Arc::new(refusal)))),
                        Err(error) => Err(refusal.without_stand_in(&error).into_io_error()),
                    };
                }
            },
        };
        match kind {
            RingKind::Kernel => {
                let mut ring = KernelRing::open(config)?;
                ring.set_reason(reason);
                Ring::on(ring, config)
            }
            RingKind::Software => Ok(software(Host::open(config.workers)?, config, reason)),
        }
    }

    /// The kernel's ring as it is, or with an engine for what it lacks, or with a second one that
    /// asks devices.
    fn on(mut kernel: KernelRing, config: &Config) -> io::Result<Ring> {
        let iopoll = if config.iopoll { Iopoll::open(&mut kernel, config) } else { None };
        let ring = match Lacking::of(&kernel) {
            None => Ring::Kernel(kernel),
            Some(lacking) => Ring::Other(Box::new(Hybrid::open(kernel, lacking, config)?)),
        };
        Ok(match iopoll {
            None => ring,
            Some(uring) => Ring::Other(Box::new(Iopoll::beside(ring, uring))),
        })
    }
}

fn software(host: Host, config: &Config, reason: Reason) -> Ring {
    Ring::Other(Box::new(SoftwareRing::new(Box::new(host), config, reason)))
}

#[cfg(test)]
impl Ring {
    /// The kernel's ring as on an older kernel: of one rung of the ladder of set-up flags. `None`:
    /// there is no such rung.
    pub(crate) fn open_on_rung(rung: usize, config: &Config) -> Option<io::Result<Ring>> {
        Some(KernelRing::open_on_rung(rung, config)?.map(Ring::Kernel))
    }

    /// The best ring of a machine whose kernel lacks these operations.
    pub(crate) fn open_without(opcodes: &[u8], config: &Config) -> io::Result<Ring> {
        let mut kernel = KernelRing::open(config)?;
        kernel.unlearn(opcodes);
        Ring::on(kernel, config)
    }

    /// The software ring in another world.
    pub(crate) fn open_in(world: Box<dyn World>, config: &Config) -> Ring {
        Ring::Other(Box::new(SoftwareRing::new(world, config, Reason::Program)))
    }
}
