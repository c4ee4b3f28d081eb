//! dci-operator

pub mod panel;
