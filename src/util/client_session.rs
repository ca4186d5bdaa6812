//! What is kept for one client connection, and ends with it.
//!
//! The client's side holds a [`ClientSession`] as long as the connection lives and hands it on
//! with each request. What other parts keep in it is dropped with it.
//!
//! Cost: one allocation for each client connection, and a lock where something is looked for.

use std::any::Any;
use std::fmt;
use std::sync::Mutex;

use super::lock::lock;

/// Values of any type that belong to one client connection.
#[derive(Default)]
pub struct ClientSession {
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl ClientSession {
    /// Keeps `value` until it is taken, or the client's connection ends.
    pub fn put<T: Any + Send>(&self, value: T) {
        lock(&self.kept).push(Box::new(value));
    }

    /// Takes a value of this type out that is the right one.
    pub fn take<T: Any>(&self, is_right: impl Fn(&T) -> bool) -> Option<T> {
        let mut kept = lock(&self.kept);
        let is_right = |value: &Box<dyn Any + Send>| value.downcast_ref().is_some_and(&is_right);
        let index = kept.iter().position(is_right)?;
        kept.swap_remove(index).downcast().ok().map(|value| *value)
    }
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_value_is_taken_once_and_only_by_its_type_and_nature() {
        let session = ClientSession::default();
        session.put(1_u8);
        session.put(2_u8);
        session.put(2_u16);
        assert_eq!(session.take(|value: &u8| *value == 2), Some(2));
        assert_eq!(session.take(|value: &u8| *value == 2), None);
        assert_eq!(session.take(|value: &u16| *value == 2), Some(2));
        assert_eq!(session.take(|_: &u8| true), Some(1));
    }

    #[test]
    fn what_is_kept_ends_with_the_session() {
        let value = Arc::new(());
        let session = ClientSession::default();
        session.put(Arc::clone(&value));
        assert_eq!(Arc::strong_count(&value), 2);
        drop(session);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
