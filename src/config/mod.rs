//! What the proxy was asked to do: typed and checked once, before anything starts.
//!
//! Flags fill the types of the modules that use the values. After [`Options::finish`] nothing
//! is a string to be interpreted later.

mod endpoint_source;
mod flags;
mod options;

pub use endpoint_source::{EndpointSource, EndpointSources, Listed};
pub use flags::PROXY;
pub use options::{Config, Options};

#[cfg(test)]
mod tests;
