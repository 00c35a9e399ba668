use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IPv4 or IPv6 network in its one spelling. IPv4-mapped IPv6 is refused: it would be a second spelling of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Whether this text is an address of the network, in its one spelling.
    #[must_use]
    pub fn admits(&self, text: &str) -> bool {
        address(text).is_some_and(|address| self.holds(address))
    }

    /// Whether every address of this network is one of `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.length >= other.length && other.holds(self.address)
    }

    fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                leading(own.to_bits().into(), 32, self.length) == leading(other.to_bits().into(), 32, self.length)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                leading(own.to_bits(), 128, self.length) == leading(other.to_bits(), 128, self.length)
            }
            _ => false,
        }
    }
}

/// The first `length` of `bits` bits.
fn leading(address: u128, bits: u8, length: u8) -> u128 {
    address.checked_shr(u32::from(bits.saturating_sub(length))).unwrap_or(0)
}

/// An address, if this is its one spelling.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!mapped && address.to_string() == text).then_some(address)
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (own, digits) = text.split_once('/').ok_or("a network is written as address/length")?;
        let own = address(own).ok_or("not an IPv4 or IPv6 address in its canonical form")?;
        let bits = if own.is_ipv4() { 32 } else { 128 };
        let length = digits.parse::<u8>().ok().filter(|length| *length <= bits && length.to_string() == digits);
        let length = length.ok_or("the length of a network is 0 to 32, or 0 to 128 for IPv6, without leading zeros")?;
        let network = Self { address: own, length };
        let value = match own {
            IpAddr::V4(v4) => v4.to_bits().into(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let host = bits - length;
        if leading(value, bits, length).checked_shl(host.into()).unwrap_or(0) != value {
            return Err("a network's bits after its length are zero");
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}
