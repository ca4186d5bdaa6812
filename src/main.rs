//! The proxy's binary: parse, set up logging, bind, serve; the only place that exits.

fn main() {}
