//! Networks that no panel and no receiver of webhooks is in: whoever may write a handler must not make the operator speak for him
//! with the services that a cloud or a node offers to its own machines.
//!
//! Refused is what an address says (`check`) and what a name resolves to when a connection is made (`tls::http_client`), so that a
//! name which resolves to something else later gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

/// What is refused when nothing else is said: link-local addresses, among them the metadata service of most clouds, and the
/// metadata services that are elsewhere: Alibaba (100.100.100.200), Azure (168.63.129.16), AWS (fd00:ec2::254), Google (fd20:ce::254).
pub const DEFAULT: &str = "169.254.0.0/16,fe80::/10,100.100.100.200/32,168.63.129.16/32,fd00:ec2::254/128,fd20:ce::254/128";

/// Not a list of networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a network nor an address; write networks such as 169.254.0.0/16, separated by commas, or `none`")]
pub struct NotANetwork(String);

/// An address that is not spoken with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is {address}, which is in {network}; the operator connects to nothing there (--denied-networks)")]
pub struct Denied {
    /// What the address of the panel says: a name or an address.
    pub host: String,
    /// What it stands for.
    pub address: IpAddr,
    /// The network that is refused.
    pub network: IpNet,
}

/// Networks that are refused. It is cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedNetworks(Arc<[IpNet]>);

impl Default for DeniedNetworks {
    fn default() -> Self {
        // The constant is right, a test sees to that; were it not, everything is refused rather than nothing.
        DEFAULT.parse().unwrap_or_else(|_| Self(Arc::new([IpNet::from(ipnet::Ipv4Net::default()), IpNet::from(ipnet::Ipv6Net::default())])))
    }
}

impl DeniedNetworks {
    /// Refuses nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// Whether an address is refused for what the given host stands for.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Denied> {
        let forms = forms(address);
        let found = self.0.iter().find(|network| forms.iter().any(|form| network.contains(form)));
        match found {
            Some(network) => Err(Denied { host: host.to_owned(), address, network: *network }),
            None => Ok(()),
        }
    }
}

impl FromStr for DeniedNetworks {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        if text.trim() == "none" {
            return Ok(Self::none());
        }
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let network = |word: &str| match word.parse::<IpNet>() {
            Ok(network) => Ok(network.trunc()),
            Err(_) => word.parse::<IpAddr>().map(IpNet::from).map_err(|_| NotANetwork(word.to_owned())),
        };
        Ok(Self(words.map(network).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for DeniedNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The same address in both families: an IPv4 address may be reached as an IPv6 one that it is part of.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(v4) => vec![address, v4.to_ipv6_mapped().into()],
        IpAddr::V6(v6) => std::iter::once(address).chain(embedded(v6).map(IpAddr::from)).collect(),
    }
}

/// The IPv4 address in one that is mapped (`::ffff:0:0/96`), compatible (`::/96`), translated (NAT64, `64:ff9b::/96`, RFC 6052) or
/// tunnelled (6to4, `2002::/16`, RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let words = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match words {
        // `::` and `::1` are no IPv4 addresses.
        [0, 0, 0, 0, 0, 0, 0, _] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(networks: &DeniedNetworks, address: &str) -> Option<String> {
        networks.check("x", address.parse().unwrap()).err().map(|denied| denied.network.to_string())
    }

    #[test]
    fn the_default_is_what_it_says() {
        let standard = DeniedNetworks::default();
        assert_eq!(standard.to_string(), DEFAULT);
        for (address, network) in [
            ("169.254.169.254", "169.254.0.0/16"),
            ("169.254.0.0", "169.254.0.0/16"),
            ("169.254.255.255", "169.254.0.0/16"),
            ("169.254.170.2", "169.254.0.0/16"),
            ("fe80::1", "fe80::/10"),
            ("febf:ffff::1", "fe80::/10"),
            ("100.100.100.200", "100.100.100.200/32"),
            ("168.63.129.16", "168.63.129.16/32"),
            ("fd00:ec2::254", "fd00:ec2::254/128"),
            ("fd20:ce::254", "fd20:ce::254/128"),
        ] {
            assert_eq!(refused(&standard, address).as_deref(), Some(network), "{address}");
        }
        for address in [
            "169.253.255.255",
            "169.255.0.0",
            "10.0.0.1",
            "127.0.0.1",
            "::1",
            "fec0::1",
            "fe7f::1",
            "100.100.100.199",
            "fd00:ec2::253",
            "2001:db8::1",
        ] {
            assert_eq!(refused(&standard, address), None, "{address}");
        }
    }

    #[test]
    fn an_address_is_refused_in_every_form_that_reaches_it() {
        let standard = DeniedNetworks::default();
        for address in ["::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"] {
            assert_eq!(refused(&standard, address).as_deref(), Some("169.254.0.0/16"), "{address}");
        }
        for address in ["::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a9fe:a9fe", "2002:a00:1::a9fe:a9fe", "2001:db8::a9fe:a9fe"] {
            assert_eq!(refused(&standard, address), None, "{address}");
        }
        let mapped: DeniedNetworks = "::ffff:10.0.0.0/104".parse().unwrap();
        assert!(refused(&mapped, "10.1.2.3").is_some(), "a list may be written in the other family");
    }

    #[test]
    fn a_list_is_read_leniently_and_nonsense_is_told() {
        let read = |text: &str| text.parse::<DeniedNetworks>().map(|n| n.to_string());
        assert_eq!(read("").as_deref(), Ok(""));
        assert_eq!(read(" , ").as_deref(), Ok(""));
        assert_eq!(read("none").as_deref(), Ok(""));
        assert_eq!(read(" 10.1.2.3/8 ,fe80::1").as_deref(), Ok("10.0.0.0/8,fe80::1/128"));
        assert_eq!(DeniedNetworks::none().to_string(), "");
        for text in ["10.0.0.0/33", "none,10.0.0.0/8", "link-local", "10.0.0.0/8;10.1.0.0/16", "10.0.0"] {
            assert_eq!(read(text), Err(NotANetwork(text.split(',').next().unwrap().to_owned())));
        }
        assert_eq!(refused(&DeniedNetworks::none(), "169.254.169.254"), None);
    }

    proptest! {
        #[test]
        fn what_is_mapped_is_refused_exactly_when_the_address_is(bits in any::<u32>(), prefix in 0u8..=32, network in any::<u32>()) {
            let list: DeniedNetworks = format!("{}/{prefix}", Ipv4Addr::from(network)).parse().unwrap();
            let plain = Ipv4Addr::from(bits);
            let expected = u64::from(prefix) == 0 || bits >> (32 - u32::from(prefix)) == network >> (32 - u32::from(prefix));
            prop_assert_eq!(list.check("x", plain.into()).is_err(), expected);
            prop_assert_eq!(list.check("x", plain.to_ipv6_mapped().into()).is_err(), expected);
        }
    }
}
