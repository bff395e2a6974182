//! What the core wants done outside, once it is unlocked (pure).

use std::any::Any;
use std::fmt;

use super::ids::ClientId;

/// What must happen once the core is unlocked.
#[derive(Default)]
pub(crate) struct Effects {
    /// Consumers that should pull.
    pub(crate) wake: Vec<ClientId>,
    /// Connections to close: their channel was deleted.
    pub(crate) close: Vec<ClientId>,
    /// The next deadline is sooner than it was.
    pub(crate) sooner: bool,
    /// To be dropped: a full queue takes long to free.
    pub(crate) garbage: Vec<Box<dyn Any + Send>>,
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wake {:?} close {:?} sooner {}", self.wake, self.close, self.sooner)
    }
}
