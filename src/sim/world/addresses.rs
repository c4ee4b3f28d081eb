//! A base of addresses: groups with ranges, and who has taken what. Sections 2.5 and 4.1 of the facts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::refusal::{Kind, Refusal};

/// The two families, written `ipv4` and `ipv6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Reads `ipv4` or `ipv6`; nothing at all means `ipv4`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "ipv4" => Some(Self::V4),
            "ipv6" => Some(Self::V6),
            _ => None,
        }
    }

    /// The family of an address.
    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `ipv4` or `ipv6`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    fn address(self, number: u128) -> IpAddr {
        match self {
            // The caller counts inside a range of this family, so nothing is cut off.
            Self::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
            Self::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

/// An address as a number, for counting.
pub(crate) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address `offset` places behind `ip`.
pub(crate) fn plus(ip: IpAddr, offset: u64) -> IpAddr {
    Family::of(ip).address(number(ip).saturating_add(u128::from(offset)))
}

/// Addresses from `first` to `last`.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    first: IpAddr,
    last: IpAddr,
    /// A hidden range is not used where any free address will do (section 4.1).
    hidden: bool,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no range of addresses; write a-b, a single address, or net/length")]
pub(crate) struct RangeError(String);

impl Range {
    /// Reads `a-b`, a single address, or `net/length` (section 4.1). Of an IPv4 net, its own address and the broadcast
    /// address are left out.
    pub(crate) fn parse(text: &str, hidden: bool) -> Result<Self, RangeError> {
        let bad = || RangeError(text.to_owned());
        let ip = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| bad());
        if let Some((net, length)) = text.split_once('/') {
            let net = ip(net)?;
            let family = Family::of(net);
            let bits: u32 = if net.is_ipv4() { 32 } else { 128 };
            let length: u32 = length.trim().parse().map_err(|_| bad())?;
            if length > bits {
                return Err(bad());
            }
            let host = 1u128.checked_shl(bits - length).map_or(u128::MAX, |size| size - 1);
            let (mut first, mut last) = (number(net) & !host, number(net) | host);
            if host >= 3 {
                first += 1;
                if family == Family::V4 {
                    last -= 1;
                }
            }
            return Ok(Self { first: family.address(first), last: family.address(last), hidden });
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (ip(first)?, ip(last)?),
            None => (ip(text)?, ip(text)?),
        };
        if first.is_ipv4() != last.is_ipv4() || number(first) > number(last) {
            return Err(bad());
        }
        Ok(Self { first, last, hidden })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && (number(self.first)..=number(self.last)).contains(&number(ip))
    }
}

/// A group ("type") of addresses.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) ranges: Vec<Range>,
    /// Who may take addresses of it; `None` is everybody.
    pub(crate) users: Option<Vec<String>>,
}

/// An address that somebody has.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) group: String,
    pub(crate) holder: String,
    pub(crate) domain: String,
    pub(crate) note: String,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Want<'a> {
    pub(crate) group: &'a str,
    pub(crate) family: Family,
    /// This address and no other.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) holder: &'a str,
    pub(crate) is_admin: bool,
    pub(crate) domain: &'a str,
    pub(crate) note: &'a str,
}

/// Groups and what is taken of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressBase {
    pub(crate) groups: Vec<Group>,
    pub(crate) taken: BTreeMap<IpAddr, Taken>,
    /// What an exhausted group is refused with: `limit` / `ip` or `missed` / `ip` (section 4.1, both are simulated).
    pub(crate) exhausted: Option<Kind>,
}

impl AddressBase {
    /// The group with this name.
    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The first group one of whose ranges has this address.
    pub(crate) fn group_of(&self, ip: IpAddr) -> Option<&Group> {
        self.groups.iter().find(|group| group.ranges.iter().any(|range| range.contains(ip)))
    }

    /// Takes an address: the one that is named, or any free one of the group.
    pub(crate) fn take(&mut self, want: &Want<'_>) -> Result<IpAddr, Refusal> {
        let group = self.group(want.group).ok_or_else(|| Refusal::value("iptype", want.group))?;
        if let Some(users) = &group.users
            && !want.is_admin
            && !users.iter().any(|user| user == want.holder)
        {
            return Err(Refusal::access("iptype"));
        }
        let ip = match want.ip {
            Some(ip) => {
                let text = ip.to_string();
                if Family::of(ip) != want.family || !group.ranges.iter().any(|range| range.contains(ip)) {
                    return Err(Refusal::value("ip", &text));
                }
                if self.taken.contains_key(&ip) {
                    return Err(Refusal::exists("ip", &text));
                }
                ip
            }
            None => self.first_free(group, want.family).ok_or_else(|| self.no_address())?,
        };
        let taken = Taken {
            group: want.group.to_owned(),
            holder: want.holder.to_owned(),
            domain: want.domain.to_owned(),
            note: want.note.to_owned(),
        };
        self.taken.insert(ip, taken);
        Ok(ip)
    }

    /// The refusal that says that a group has no free address.
    pub(crate) fn no_address(&self) -> Refusal {
        Refusal::new(self.exhausted.clone().unwrap_or(Kind::Limit), "ip", "")
    }

    fn first_free(&self, group: &Group, family: Family) -> Option<IpAddr> {
        let open = group.ranges.iter().filter(|range| !range.hidden && Family::of(range.first) == family);
        for range in open {
            let mut candidate = number(range.first);
            let last = number(range.last);
            // Those taken come in order, so the first gap is found without looking at free ones.
            for taken in self.taken.range(range.first..=range.last).map(|(ip, _)| number(*ip)) {
                if taken != candidate {
                    break;
                }
                candidate += 1;
            }
            if candidate <= last {
                return Some(family.address(candidate));
            }
        }
        None
    }
}
