//! dci-operator
