//! What the proxy was asked to do: typed and checked once, before anything starts.
//!
//! Flags fill the types of the modules that use the values. After [`Options::finish`] nothing
//! is a string to be interpreted later.

mod flags;
mod options;

pub use flags::PROXY;
pub use options::{Config, ConfigError, Options};

#[cfg(test)]
mod tests;
