//! What the user wants to be called around a wait: the two hooks of a builder.

use std::fmt;
use std::sync::Arc;

type Hook = Arc<dyn Fn() + Send + Sync>;

/// Called before and after a wait that may sleep.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    park: Option<Hook>,
    unpark: Option<Hook>,
}

impl Hooks {
    pub(super) fn on_park(&mut self, hook: impl Fn() + Send + Sync + 'static) {
        self.park = Some(Arc::new(hook));
    }

    pub(super) fn on_unpark(&mut self, hook: impl Fn() + Send + Sync + 'static) {
        self.unpark = Some(Arc::new(hook));
    }

    /// `None` if there is nothing to call.
    pub(super) fn some(self) -> Option<Hooks> {
        (self.park.is_some() || self.unpark.is_some()).then_some(self)
    }

    pub(super) fn before_wait(&self) {
        if let Some(hook) = &self.park {
            hook();
        }
    }

    pub(super) fn after_wait(&self) {
        if let Some(hook) = &self.unpark {
            hook();
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("park", &self.park.is_some())
            .field("unpark", &self.unpark.is_some())
            .finish()
    }
}
