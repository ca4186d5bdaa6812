//! A dummy HTTP server for trying the proxy out.

fn main() {}
