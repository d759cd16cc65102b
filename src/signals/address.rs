//! Where a scrape may connect.
//!
//! Pods choose their own labels and may forge what they report, so an address is checked before connecting and once
//! more on the connected socket. What no pod of another has is refused whatever the administrator allows: link-local
//! and metadata addresses, multicast, addresses of nodes and of the API server, and forms that hide one address in another.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation: `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No address before the slash.
    #[error("network needs an address in its usual form, such as 10.0.0.0/8 or fd00::/8")]
    Address,
    /// No length, or one longer than the address.
    #[error("network needs a prefix length of 0 to 32 for IPv4 and 0 to 128 for IPv6")]
    Prefix,
    /// The address has bits beyond the prefix, so one of the two is a mistake.
    #[error("network has address bits beyond its prefix: clear them or lengthen the prefix")]
    HostBits,
}

/// Why an address may not be scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nowhere, or this host's choice of address.
    #[error("unspecified address")]
    Unspecified,
    /// This host.
    #[error("loopback address: only an administrator's allow list opens it")]
    Loopback,
    /// The link, where metadata services live.
    #[error("link-local address")]
    LinkLocal,
    /// Known address of a cloud's metadata or host service.
    #[error("address of a cloud's metadata service")]
    Metadata,
    /// Many at once.
    #[error("multicast or broadcast address")]
    Multicast,
    /// Reserved, or an address that stands for another one in a way that routers may undo.
    #[error("reserved or translated address")]
    Reserved,
    /// Not a pod's: a node's or the API server's.
    #[error("address of a node or of the API server")]
    Host,
}

/// What this cluster adds to the built-in rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// Opens loopback networks, for clusters whose pods live there; other built-in refusals stay.
    pub allowed: Vec<Network>,
    /// Addresses of nodes and of the API server, in canonical form: refused in any case. Pods on the network of their node
    /// are not scraped, so none of them is a pod's.
    pub hosts: BTreeSet<IpAddr>,
}

impl AddressRules {
    /// Whether a scrape may connect there; gives the address in its canonical form.
    pub fn check(&self, address: IpAddr) -> Result<IpAddr, Refusal> {
        let address = address.to_canonical();
        if self.hosts.contains(&address) {
            return Err(Refusal::Host);
        }
        let refused = match address {
            IpAddr::V4(address) => refused_v4(address),
            IpAddr::V6(address) => refused_v6(address),
        };
        match refused {
            None => Ok(address),
            Some(Refusal::Loopback) if self.allowed.iter().any(|network| network.contains(address)) => Ok(address),
            Some(refusal) => Err(refusal),
        }
    }
}

/// Addresses at which clouds answer questions about the node to whoever asks.
const METADATA_V4: [Ipv4Addr; 2] = [
    // Alibaba Cloud metadata, in a range that is otherwise used for pods.
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure's host service.
    Ipv4Addr::new(168, 63, 129, 16),
];

/// The same in the private IPv6 range.
const METADATA_V6: [Ipv6Addr; 2] = [
    // AWS.
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    // Google Cloud.
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
];

fn refused_v4(address: Ipv4Addr) -> Option<Refusal> {
    let [first, second, third, _] = address.octets();
    match (first, second, third) {
        (0, 0, 0) if address.is_unspecified() => Some(Refusal::Unspecified),
        (127, ..) => Some(Refusal::Loopback),
        (169, 254, _) => Some(Refusal::LinkLocal),
        (224..=239, ..) => Some(Refusal::Multicast),
        _ if address.is_broadcast() => Some(Refusal::Multicast),
        // "This network", protocol assignments, and the class that never came into use.
        (0 | 240..=255, ..) | (192, 0, 0) => Some(Refusal::Reserved),
        _ if METADATA_V4.contains(&address) => Some(Refusal::Metadata),
        _ => None,
    }
}

fn refused_v6(address: Ipv6Addr) -> Option<Refusal> {
    if address.is_unspecified() {
        return Some(Refusal::Unspecified);
    }
    if address.is_loopback() {
        return Some(Refusal::Loopback);
    }
    if address.is_multicast() {
        return Some(Refusal::Multicast);
    }
    if METADATA_V6.contains(&address) {
        return Some(Refusal::Metadata);
    }
    match address.segments() {
        // fe80::/10 and its retired twin fec0::/10.
        [0xfe80..=0xfeff, ..] => Some(Refusal::LinkLocal),
        // IPv4-compatible (::/96), translated (64:ff9b::/96, 64:ff9b:1::/48), Teredo, 6to4, discard.
        [0, 0, 0, 0, 0, 0, ..] | [0x0064, 0xff9b, ..] | [0x2001, 0, ..] | [0x2002, ..] | [0x0100, 0, 0, 0, ..] => {
            Some(Refusal::Reserved)
        }
        // IPv4-translated, ::ffff:0:0:0/96.
        [0, 0, 0, 0, 0xffff, 0, ..] => Some(Refusal::Reserved),
        _ => None,
    }
}

impl Network {
    /// Whether the network holds the address, given in canonical form.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.prefix) == self.base
    }
}

/// The address with the bits beyond the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(u32::from(prefix)))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(u32::from(prefix)))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let base: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        // Rules are written and compared in canonical form; a mapped network would never match.
        if base.to_canonical() != base {
            return Err(NetworkError::Address);
        }
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        if prefix > longest {
            return Err(NetworkError::Prefix);
        }
        if masked(base, prefix) != base {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { base, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(allowed: &[&str], hosts: &[&str]) -> AddressRules {
        AddressRules {
            allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
            hosts: hosts.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn addresses_of_pods_pass_and_all_others_are_refused_with_the_reason() {
        let rules = rules(&["127.64.0.0/10"], &["10.0.0.1", "192.168.5.77", "fd12:3456:1::9"]);
        for (text, expected) in [
            ("10.244.1.7", Ok("10.244.1.7")),
            ("172.16.0.9", Ok("172.16.0.9")),
            ("192.168.4.255", Ok("192.168.4.255")),
            ("192.168.5.78", Ok("192.168.5.78")),
            ("100.64.3.4", Ok("100.64.3.4")),
            ("10.0.0.2", Ok("10.0.0.2")),
            ("8.8.8.8", Ok("8.8.8.8")),
            ("fd00::17", Ok("fd00::17")),
            ("2600:1f18::5", Ok("2600:1f18::5")),
            ("::ffff:10.244.1.7", Ok("10.244.1.7")),
            ("127.64.0.1", Ok("127.64.0.1")),
            ("127.127.255.254", Ok("127.127.255.254")),
            ("::ffff:127.64.0.1", Ok("127.64.0.1")),
            ("127.0.0.1", Err(Refusal::Loopback)),
            ("127.63.255.255", Err(Refusal::Loopback)),
            ("127.128.0.0", Err(Refusal::Loopback)),
            ("127.255.255.255", Err(Refusal::Loopback)),
            ("::1", Err(Refusal::Loopback)),
            ("0:0:0:0:0:0:0:1", Err(Refusal::Loopback)),
            ("::ffff:127.0.0.1", Err(Refusal::Loopback)),
            ("::ffff:7f00:1", Err(Refusal::Loopback)),
            ("0:0:0:0:0:ffff:127.0.0.1", Err(Refusal::Loopback)),
            ("0.0.0.0", Err(Refusal::Unspecified)),
            ("::", Err(Refusal::Unspecified)),
            ("::ffff:0.0.0.0", Err(Refusal::Unspecified)),
            ("0.0.0.1", Err(Refusal::Reserved)),
            ("0.1.2.3", Err(Refusal::Reserved)),
            ("169.254.169.254", Err(Refusal::LinkLocal)),
            ("169.254.0.1", Err(Refusal::LinkLocal)),
            ("::ffff:169.254.169.254", Err(Refusal::LinkLocal)),
            ("::ffff:a9fe:a9fe", Err(Refusal::LinkLocal)),
            ("fe80::1", Err(Refusal::LinkLocal)),
            ("febf::1", Err(Refusal::LinkLocal)),
            ("fec0::1", Err(Refusal::LinkLocal)),
            ("100.100.100.200", Err(Refusal::Metadata)),
            ("168.63.129.16", Err(Refusal::Metadata)),
            ("fd00:ec2::254", Err(Refusal::Metadata)),
            ("fd20:ce::254", Err(Refusal::Metadata)),
            ("::ffff:100.100.100.200", Err(Refusal::Metadata)),
            ("192.0.0.192", Err(Refusal::Reserved)),
            ("224.0.0.1", Err(Refusal::Multicast)),
            ("239.255.255.250", Err(Refusal::Multicast)),
            ("255.255.255.255", Err(Refusal::Multicast)),
            ("ff02::1", Err(Refusal::Multicast)),
            ("::ffff:224.0.0.1", Err(Refusal::Multicast)),
            ("240.0.0.1", Err(Refusal::Reserved)),
            ("::127.0.0.1", Err(Refusal::Reserved)),
            ("::169.254.169.254", Err(Refusal::Reserved)),
            ("64:ff9b::169.254.169.254", Err(Refusal::Reserved)),
            ("64:ff9b::7f00:1", Err(Refusal::Reserved)),
            ("64:ff9b:1::a9fe:a9fe", Err(Refusal::Reserved)),
            ("2002:7f00:1::", Err(Refusal::Reserved)),
            ("2002:a9fe:a9fe::1", Err(Refusal::Reserved)),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Err(Refusal::Reserved)),
            ("::ffff:0:127.0.0.1", Err(Refusal::Reserved)),
            ("100::1", Err(Refusal::Reserved)),
            ("10.0.0.1", Err(Refusal::Host)),
            ("::ffff:10.0.0.1", Err(Refusal::Host)),
            ("192.168.5.77", Err(Refusal::Host)),
            ("fd12:3456:1::9", Err(Refusal::Host)),
        ] {
            let address: IpAddr = text.parse().unwrap_or_else(|_| panic!("{text} is an address"));
            let expected = expected.map(|text: &str| text.parse::<IpAddr>().unwrap());
            assert_eq!(rules.check(address), expected, "{text}");
        }
    }

    #[test]
    fn other_spellings_of_an_address_are_no_address() {
        // A pod's address comes as text; what the parser takes for no address never reaches the rules.
        for text in [
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            " 127.0.0.1",
            "127.0.0.1 ",
            "127.0.0.01",
            "010.0.0.1",
            "[::1]",
            "::1%lo",
            "fe80::1%eth0",
            "localhost",
            "127.0.0.1:80",
            "127。0。0。1",
            "①27.0.0.1",
            "127.0.0.1\0",
            "10.0.0.256",
            "1e3.0.0.1",
            "::ffff:127.1",
            "::ffff:0x7f000001",
            "",
            "user@10.0.0.1",
            "10.0.0.1/32",
        ] {
            assert!(text.parse::<IpAddr>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_allow_list_opens_loopback_and_nothing_else() {
        let everything = rules(&["0.0.0.0/0", "::/0"], &["127.64.0.5"]);
        assert!(everything.check("127.0.0.1".parse().unwrap()).is_ok());
        for text in [
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "fd00:ec2::254",
            "fe80::1",
            "::127.0.0.1",
            "127.64.0.5",
        ] {
            assert!(everything.check(text.parse().unwrap()).is_err(), "{text}");
        }
        assert_eq!(
            AddressRules::default().check("127.64.0.1".parse().unwrap()),
            Err(Refusal::Loopback)
        );
    }

    #[test]
    fn networks_are_read_strictly() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok(())),
            ("10.1.2.3", Ok(())),
            ("0.0.0.0/0", Ok(())),
            ("fd00::/8", Ok(())),
            ("10.0.0.0/33", Err(NetworkError::Prefix)),
            ("fd00::/129", Err(NetworkError::Prefix)),
            ("10.0.0.0/", Err(NetworkError::Prefix)),
            ("10.0.0.0/+8", Err(NetworkError::Prefix)),
            ("10.0.0.0/8/8", Err(NetworkError::Prefix)),
            ("10.0.0.0/999", Err(NetworkError::Prefix)),
            ("10.0.0.1/8", Err(NetworkError::HostBits)),
            ("127.64.0.0/9", Err(NetworkError::HostBits)),
            ("10.0.0/8", Err(NetworkError::Address)),
            ("::ffff:10.0.0.0/104", Err(NetworkError::Address)),
            ("", Err(NetworkError::Address)),
        ] {
            assert_eq!(text.parse::<Network>().map(drop), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_form_of_a_refused_v4_address_passes(bits: u32) {
            let plain = Ipv4Addr::from_bits(bits);
            let rules = AddressRules::default();
            let verdict = rules.check(IpAddr::V4(plain));
            prop_assert_eq!(rules.check(IpAddr::V6(plain.to_ipv6_mapped())), verdict);
            prop_assert!(rules.check(IpAddr::V6(plain.to_ipv6_compatible())).is_err());
            prop_assert_eq!(verdict.is_err(), refused_v4(plain).is_some());
        }

        #[test]
        fn a_network_holds_what_shares_its_prefix(bits: u32, other: u32, prefix in 0_u8..=32) {
            let base = masked(IpAddr::V4(Ipv4Addr::from_bits(bits)), prefix);
            let network: Network = format!("{base}/{prefix}").parse().unwrap();
            let shares = prefix == 0 || bits >> (32 - prefix) == other >> (32 - prefix);
            prop_assert_eq!(network.contains(IpAddr::V4(Ipv4Addr::from_bits(other))), shares);
        }
    }
}
